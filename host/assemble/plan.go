// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"kindling/host/budget"
	"kindling/host/options"
	"kindling/host/tree"
	"kindling/internal/payload"
	"kindling/steps"
	"kindling/steps/overlay"
)

// Format is how a medium holds its entries.
type Format string

// The formats.
const (
	FormatBoot      Format = "builder-hex0" // a bootable image of builder-hex0 with a srcfs
	FormatPayload   Format = "payload"      // an LBPAYLD1 container
	FormatExt3      Format = "ext3"         // a disk with one partition
	FormatInitramfs Format = "initramfs"    // a cpio archive
	FormatFolder    Format = "folder"       // files in the target folder itself
)

// Medium is one thing that is made.
type Medium struct {
	Name    string // "init", "payload", "external", "disk", "initramfs" or "root"
	File    string // its name in the folder that Write is given; "" is that folder itself
	Format  Format
	Entries []Entry // sorted by path; of a payload in its own order, without SHA256SUMS
	Size    int64   // of the image in bytes; 0 for a folder and an initramfs
	Bytes   int64   // of all entries together

	offset int64     // of an ext3 disk's partition
	boot   bootImage // of FormatBoot
	frames []piece   // of FormatPayload
	merge  bool      // of FormatFolder: into a folder that is there
}

// PayloadInfo is what is known of the payload image.
type PayloadInfo struct {
	payload.Summary
	Early      int   // files needed before Linux, PAYLOAD_EARLY_COUNT
	EarlyBytes int64 // what they take
	EarlyEnd   int64 // the offset behind the last of them
	RestSkip   int   // files that the late import passes over
	Rest       int   // files that it imports
}

// Assembly is everything that was decided.
type Assembly struct {
	Options   Options
	Plan      *steps.Plan
	Extra     []*steps.Plan    // the extra roots, in the order in which they run
	Config    *steps.Config    // bootstrap.cfg as it stands on the media
	Distfiles []steps.Distfile // in the order of need
	Media     []Medium         // in the order in which a machine is given them
	Payload   *PayloadInfo     // nil without one
	// Budget holds the limits of the early kernels against all this, nil without a kernel bootstrap.
	Budget *budget.Report
	// BaseTarball says what becomes of the base tarball.
	BaseTarball BaseTarball
	// FiwixScript is jump/fiwix.sh as it stands on the media, nil if there is none.
	FiwixScript []byte
	Warnings    []string

	preseed *preseed    // nil without --early-preseed
	open    []io.Closer // the folders that the files of the media are in
}

// Close ends the use of the tree and of the other folders; Write needs them.
func (a *Assembly) Close() error {
	var failed []error
	for _, c := range a.open {
		failed = append(failed, c.Close())
	}
	return errors.Join(failed...)
}

// Medium is the medium of that name, or nil.
func (a *Assembly) Medium(name string) *Medium {
	for i := range a.Media {
		if a.Media[i].Name == name {
			return &a.Media[i]
		}
	}
	return nil
}

// Plan decides what goes where. It reads the tree and the names and sizes of the distfiles, and writes nothing. The
// Assembly ends with Close.
func Plan(ctx context.Context, o Options) (_ *Assembly, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	t, err := tree.Open(o.Tree)
	if err != nil {
		return nil, err
	}
	a := &Assembly{open: []io.Closer{t}}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if err := addExtras(t, &o.Extra); err != nil {
		return nil, err
	}
	if o.Distfiles == "" {
		o.Distfiles = filepath.Join(t.Dir(), tree.Distfiles)
	}
	a.Options, a.Warnings = o, o.Boot.Warnings()
	p := &planner{ctx: ctx, tree: t, a: a}
	for _, step := range []func() error{
		p.checkTree, p.steps, p.extraRoots, p.findDistfiles, p.payload, p.budgetInput, p.baseTarball, p.overlay, p.list, p.media, p.budget,
	} {
		if err := step(); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return p.a, nil
}

// open opens a folder for as long as the Assembly lasts.
func (p *planner) open(dir string) (*tree.Folder, error) {
	f, err := tree.OpenFolder(dir)
	if err == nil {
		p.a.open = append(p.a.open, f)
	}
	return f, err
}

// planner holds what Plan finds out on its way.
type planner struct {
	ctx  context.Context //nolint:containedctx // lives for one Plan
	tree *tree.Tree
	a    *Assembly

	distfiles *tree.Folder // nil: there is none
	files     []found      // what the plan needs from the folder of distfiles
	folder    []tree.Entry // everything in that folder, with all sources
	agent     *Entry       // the agent, wherever it goes
	over      overlay.Result
	stage0    []tree.Entry
	seed      []tree.Entry
	stepFiles []tree.Entry
	extra     []rootFiles // of the extra roots
	repo      []tree.Entry
	repoDir   *tree.Folder
	keys      []overlay.Key
	in        budget.Input    // all but the first medium
	unread    []string        // warnings about limits that cannot be read
	needed    map[string]bool // distfiles by name: something before Linux needs it
	entries   []Entry         // of the payload
}

func (p *planner) warn(format string, args ...any) {
	p.a.Warnings = append(p.a.Warnings, fmt.Sprintf(format, args...))
}

// inTree says in which tree an error was found.
func (p *planner) inTree(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tree %s: %w", p.tree.Dir(), err)
}

// CheckTree reports what t lacks for media of that mode, as an error that wraps tree.ErrShape and names the folder.
func CheckTree(t *tree.Tree, boot *options.Rootfs) error {
	need := []string{tree.Steps, tree.Seed}
	if boot.EarlyPreseed != "" {
		need = append(need, tree.Seed+"/preseeded.kaem")
	}
	if boot.KernelBootstrap() {
		need = append(need, tree.BuilderHex0, stage1File, stage2File)
	}
	if err := t.Require(need...); err != nil || boot.EarlyPreseed != "" {
		return err
	}
	return t.RequireSeeds(archDir(boot.Arch), boot.KernelBootstrap())
}

// checkTree looks for what the mode needs, and for a change in the one file that must stay as it is.
func (p *planner) checkTree() error {
	boot := &p.a.Options.Boot
	if err := CheckTree(p.tree, boot); err != nil {
		return err
	}
	if !boot.KernelBootstrap() {
		return nil
	}
	sum := ""
	source, err := p.tree.Find(tree.KexecFiwix)
	if err == nil {
		sum, err = source.SHA256(p.ctx)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		p.warn("%s is not there: nothing in this tree starts Fiwix as Kindling knows it", tree.KexecFiwix)
	case err != nil:
		return err
	case sum != tree.KexecFiwixSHA256:
		p.warn("%s differs from the baseline: sha256 %s, that of live-bootstrap 984b8322 is %s", tree.KexecFiwix, sum,
			tree.KexecFiwixSHA256)
	}
	return nil
}

// TreeConfig is bootstrap.cfg with a payload taken into account, with the variables that the tree's rootfs.py writes.
func TreeConfig(t *tree.Tree, boot *options.Rootfs, media *options.Payload) (*steps.Config, error) {
	rootfs, err := readFile(t, "rootfs.py")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return options.ConfigOf(rootfs, media.Config(boot)), nil
}

// steps plans with the configuration and the manifest that go on the media.
func (p *planner) steps() error {
	o := &p.a.Options
	config, err := TreeConfig(p.tree, &o.Boot, &o.Payload)
	if err != nil {
		return p.inTree(err)
	}
	p.a.Config = config
	if err := o.Extra.Config(p.a.Config); err != nil {
		return err
	}
	o.Net.AddTo(p.a.Config)
	for _, v := range o.Net.Variables() {
		p.keys = append(p.keys, overlay.Key{Name: v.Name, Value: v.Value, Type: `""`, Short: "How the guest's network is configured"})
	}
	config = p.a.Config.Clone()
	if o.Boot.NoCreateConfig && o.Boot.KernelBootstrap() {
		config.Set("KERNEL_BOOTSTRAP", "True") // as the configurator sets it under builder-hex0
	}
	manifest, err := steps.ReadManifest(p.tree.FS(), steps.MainRoot)
	if err != nil {
		return p.inTree(err)
	}
	if o.payload() {
		if manifest, err = p.payloadManifest(); err != nil {
			return p.inTree(err)
		}
	}
	if p.a.Plan, err = steps.NewPlanOf(manifest, p.tree.FS(), steps.MainRoot, config); err != nil {
		return p.inTree(err)
	}
	return nil
}

func (p *planner) payloadManifest() (steps.Manifest, error) {
	const name = "steps/manifest"
	text, err := readFile(p.tree, name)
	if err != nil {
		return steps.Manifest{}, err
	}
	if text, err = overlay.Manifest(name, text); err != nil {
		return steps.Manifest{}, err
	}
	return steps.ParseManifest(name, bytes.NewReader(text))
}

// payload decides what is in the payload image, and adds what the importers have to know to the configuration.
//
// The agent is the first file. Of the early part, those files that are needed again on Linux come last: what the late
// import brings is then one stretch, and it brings them back.
func (p *planner) payload() error {
	o := &p.a.Options
	if err := p.openAgent(); err != nil || !o.payload() {
		return err
	}
	info := &PayloadInfo{}
	var again, rest []Entry
	if p.agent != nil && o.Payload.PayloadStage != string(steps.PayloadStageLinux) {
		agent := *p.agent
		agent.Path = overlay.AgentName
		p.entries = append(p.entries, agent)
	}
	for _, f := range p.files {
		early := f.Medium == steps.MediumPayloadEarly
		switch {
		case early && f.Late:
			again = append(again, f.entry(f.Name))
		case early:
			p.entries = append(p.entries, f.entry(f.Name))
		case f.Medium == steps.MediumPayload || f.Again == steps.MediumPayload:
			rest = append(rest, f.entry(f.Name))
		}
	}
	info.RestSkip = len(p.entries)
	p.entries = append(p.entries, again...)
	info.Early = len(p.entries)
	p.entries = append(p.entries, rest...)
	info.Rest = len(p.entries) - info.RestSkip
	p.a.Payload = info
	return p.layoutPayload(info)
}

// layoutPayload finds out where each file of the payload stands, and sets the keys.
func (p *planner) layoutPayload(info *PayloadInfo) error {
	list := make([]payload.Entry, 0, len(p.entries))
	for i := range p.entries {
		e := &p.entries[i]
		list = append(list, payload.Entry{Name: e.Path, Size: e.Size, SHA256: e.SHA256, Open: e.Open})
	}
	summary, frames, err := payload.Frames(list)
	if err != nil {
		return err
	}
	info.Summary = summary
	medium := Medium{Name: "payload", File: "payload.img", Format: FormatPayload, Entries: p.entries, Size: summary.Size}
	for i, f := range frames {
		piece := piece{at: f.Offset, head: f.Head}
		if i < len(p.entries) {
			piece.entry = &medium.Entries[i]
		}
		medium.frames = append(medium.frames, piece)
		if i < info.Early {
			info.EarlyBytes += p.entries[i].Size
			info.EarlyEnd = piece.at + piece.size()
		}
	}
	medium.count()
	p.a.Media = append(p.a.Media, medium)
	if err := options.AddPayload(p.a.Config, info.Early, summary.ID); err != nil {
		return err
	}
	p.setKeys(info)
	return nil
}

// setKeys adds the other keys, and notes all of them for the configurator.
func (p *planner) setKeys(info *PayloadInfo) {
	agent := "False"
	if p.agent != nil && len(p.entries) > 0 && p.entries[0].Path == overlay.AgentName {
		agent = "True"
	}
	c := p.a.Config
	c.Set("PAYLOAD_EARLY_BYTES", strconv.FormatInt(info.EarlyBytes, 10))
	c.Set("PAYLOAD_REST_SKIP", strconv.Itoa(info.RestSkip))
	c.Set("PAYLOAD_REST_COUNT", strconv.Itoa(info.Rest))
	c.Set("PAYLOAD_AGENT", agent)
	for _, k := range []overlay.Key{
		{Name: steps.VarPayloadRequired, Type: "bool", Short: "A payload disk is attached"},
		{Name: "PAYLOAD_EARLY_COUNT", Type: "int", Short: "Files of the payload that are needed before Linux"},
		{Name: "PAYLOAD_ID", Type: `""`, Short: "Identity of the payload"},
		{Name: "PAYLOAD_EARLY_BYTES", Type: `""`, Short: "What those files take"},
		{Name: "PAYLOAD_REST_SKIP", Type: "int", Short: "Files that the import on Linux passes over"},
		{Name: "PAYLOAD_REST_COUNT", Type: "int", Short: "Files that the import on Linux brings"},
		{Name: "PAYLOAD_AGENT", Type: "bool", Short: "The first file of the payload is the agent"},
	} {
		p.addKey(k)
	}
}

// addKey notes a key, with its value, for the configurator.
func (p *planner) addKey(k overlay.Key) {
	k.Value = p.a.Config.Get(k.Name)
	p.keys = append(p.keys, k)
}

// openAgent hashes the agent, if there is one.
func (p *planner) openAgent() error {
	o := &p.a.Options
	if !o.agent() {
		return nil
	}
	name, err := filepath.Abs(o.Agent)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	source, folder, err := tree.FindFile(name)
	digest := ""
	if err == nil {
		p.a.open = append(p.a.open, folder)
		digest, err = source.SHA256(p.ctx)
	}
	if err != nil {
		return fmt.Errorf("agent: %w (build it, or name it with --agent, or give --agent=off)", err)
	}
	p.agent = &Entry{Path: overlay.AgentPath, Exec: true, Size: source.Size, Source: source, SHA256: digest}
	return nil
}

// baseTarball decides about it. That there is none is worth a warning where one is to be expected.
func (p *planner) baseTarball() error {
	o := &p.a.Options
	facts := BaseTarballFacts{Wish: o.Payload.BaseTarball, Plan: p.a.Plan, Overlay: o.payload() || o.agent() || o.done()}
	if o.Boot.KernelBootstrap() {
		facts.Budget = budget.Compute(p.in)
	}
	p.a.BaseTarball = DecideBaseTarball(facts)
	switch {
	case p.a.BaseTarball.Made:
		p.in.Added = append(p.in.Added, budget.Item{Path: budget.BaseTarballPath, Size: budget.BaseTarball})
	case facts.Wish == options.BaseTarballOn, facts.Wish != options.BaseTarballOff && facts.Overlay && setsUpRepo(facts.Plan):
		p.warn("no base tarball: %s", p.a.BaseTarball.Why)
	}
	return nil
}

// overlay works out what is laid over the tree.
func (p *planner) overlay() error {
	o := &p.a.Options
	result, err := overlay.Apply(overlay.Input{
		Tree: p.tree.FS(), Payload: o.payload(), Agent: o.agent(), DoneEvent: o.done(), Panic: o.panic(),
		Importer: o.Importer, Keys: p.keys, BaseTarball: p.a.BaseTarball.Made,
		Extra: p.a.Extra, Keep: p.keep(),
	})
	if err != nil {
		return p.inTree(err)
	}
	p.over = result
	p.a.Warnings = append(p.a.Warnings, result.Warnings...)
	const fiwix = "steps/jump/fiwix.sh"
	for _, f := range result.Files {
		if f.Path == fiwix {
			p.a.FiwixScript = f.Data
			return nil
		}
	}
	if p.a.FiwixScript, err = readFile(p.tree, fiwix); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return p.inTree(err)
}

// readFile reads a small file of the tree.
func readFile(t *tree.Tree, name string) ([]byte, error) {
	const largest = 16 << 20
	f, err := t.FS().Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(data) > largest {
		err = fmt.Errorf("%s: more than %d bytes", name, largest)
	}
	return data, err
}
