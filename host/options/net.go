// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options

import (
	"fmt"
	"strings"

	"kindling/internal/netkeys"
	"kindling/steps"
)

// Net is how the guest's network is configured, where the agent does that. Embed it in a kong command beside Rootfs.
type Net struct {
	NetMode   string   `help:"Which of the guest's links the agent configures: all of them, those of --net-static, or none." enum:"auto,static,off" default:"auto" name:"net"`
	NetStatic []string `help:"Static address of one of the guest's links, by its name or hardware address; repeatable." sep:"none" placeholder:"LINK,ADDRESS/LENGTH[,GATEWAY]"`
	NetDNS    []string `help:"Nameserver that the guest asks before all others; repeatable." sep:"none" placeholder:"ADDRESS" name:"net-dns"`
}

// Variable is one variable of bootstrap.cfg.
type Variable struct{ Name, Value string }

// Variables are those that the options set, in order; none for the defaults.
func (n *Net) Variables() []Variable {
	var list []Variable
	for _, v := range []Variable{
		{netkeys.VarMode, n.NetMode},
		{netkeys.VarStatic, strings.Join(n.NetStatic, ",")},
		{netkeys.VarDNS, strings.Join(n.NetDNS, ",")},
	} {
		if v.Value != "" && v != (Variable{netkeys.VarMode, string(netkeys.ModeAuto)}) {
			list = append(list, v)
		}
	}
	return list
}

// Check reports what cannot be as it stands; agent says whether there is one to read it.
func (n *Net) Check(agent bool) error {
	list := n.Variables()
	if len(list) > 0 && !agent {
		return fmt.Errorf("%s: only the agent reads it, and there is none: leave it out, and --agent=off as well in QEMU or on bare metal",
			n.option(list[0].Name))
	}
	_, err := netkeys.Parse(func(name string) string {
		for _, v := range list {
			if v.Name == name {
				return v.Value
			}
		}
		return ""
	})
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, name := range []string{netkeys.VarMode, netkeys.VarStatic, netkeys.VarDNS} {
		text = strings.ReplaceAll(text, name, n.option(name))
	}
	return fmt.Errorf("%s", text)
}

// option is the name of the option that sets a variable.
func (*Net) option(name string) string {
	return map[string]string{netkeys.VarMode: "--net", netkeys.VarStatic: "--net-static", netkeys.VarDNS: "--net-dns"}[name]
}

// AddTo sets the variables in bootstrap.cfg.
func (n *Net) AddTo(c *steps.Config) {
	for _, v := range n.Variables() {
		c.Set(v.Name, v.Value)
	}
}
