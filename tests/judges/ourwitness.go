package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/torchwood"
	f_note "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"logwood.invalid/examples/go/receipt"
)

const (
	// witnessedInterval keeps Tessera below what our witness cosigns for a log in a second.
	witnessedInterval = 250 * time.Millisecond
	// forkTimeout is how long Tessera may try to have a fork witnessed.
	forkTimeout = 3 * time.Second
)

// An ourWitness is a `logwood witness` with a key of each kind.
type ourWitness struct {
	bench   *bench
	address string
	// vkeys are an Ed25519 and an ML-DSA-44 key.
	vkeys   []string
	process *exec.Cmd
}

// startWitness starts a witness for a log that signs with vkey, and returns once it listens.
func (b *bench) startWitness(vkey string) (*ourWitness, error) {
	path := func(name string) string { return filepath.Join(b.dir, "our-witness."+name) }
	args := []string{"witness", "--listen", "127.0.0.1:0", "--state", path("state"), "--logs", path("logs")}
	for _, kind := range []string{"ed25519-cosignature", "ml-dsa-44"} {
		name := "logwood.test/" + kind
		if _, err := b.command(b.logwood, "keys", "generate", "--type", kind, "--name", name, "--out", path(kind)); err != nil {
			return nil, err
		}
		args = append(args, "--key", path(kind))
	}
	if err := os.WriteFile(path("logs"), fmt.Appendf(nil, "log %s\nquorum none\n", vkey), 0o644); err != nil {
		return nil, err
	}
	w := &ourWitness{bench: b}
	process, err := b.launch(args, nil, func(line string) bool {
		if vkey, found := strings.CutPrefix(line, "vkey "); found {
			w.vkeys = append(w.vkeys, vkey)
		}
		if address, found := strings.CutPrefix(line, "serving HTTP on "); found {
			w.address = address
		}
		return w.address != ""
	})
	w.process = process
	return w, err
}

func (w *ourWitness) stop() { terminate(w.process) }

func (w *ourWitness) url() string { return "http://" + w.address }

// shown is what the witness shows of a log, by its origin.
func (w *ourWitness) shown(origin string) ([]byte, error) {
	return fetch(fmt.Sprintf("%s/%x/checkpoint", w.url(), sha256.Sum256([]byte(origin))))
}

// policy has the log of a key, and one of our witness's keys as quorum: Tessera takes one key a URL.
func (w *ourWitness) policy(vkey, key string) []byte {
	return fmt.Appendf(nil, "log %s\nwitness ours %s %s\nquorum ours\n", vkey, key, w.url())
}

// judgeOurWitness has our witness cosign a log of Tessera's, and our monitor follow it.
func (b *bench) judgeOurWitness() {
	l, err := b.newTesseraLog("tessera-witnessed")
	if err != nil {
		b.verdict("tessera", "its witnessed log could not be made, so it did not run", err)
		return
	}
	w, err := b.startWitness(l.vkey)
	if err != nil {
		b.verdict("tessera", "our witness did not start, so it did not run", err)
		return
	}
	defer w.stop()
	policyFile := filepath.Join(b.dir, "tessera-witnessed.policy")
	policy := w.policy(l.vkey, w.vkeys[0])
	err = os.WriteFile(policyFile, policy, 0o644)
	if err == nil {
		l.witnesses, err = tessera.NewWitnessGroupFromPolicy(policy)
	}
	if err != nil {
		b.verdict("tessera", "does not take our witness's key, so it did not run", err)
		return
	}
	old := l.dir + "-old"
	for _, size := range []int{1, 300, 5000} {
		err := l.grow(size)
		if err == nil && size == 300 {
			_, err = b.command("cp", "-a", l.dir, old)
		}
		if err == nil {
			err = l.judgeCosigned(w)
		}
		b.verdict("tessera", fmt.Sprintf("its log of %d, cosigned by our witness", size), err)
		b.verdict("logwood monitor", fmt.Sprintf("follows that log of %d", size), l.judgeMonitor(policyFile, l.url))
		sources := []string{l.url, "witness+" + w.url()}
		b.verdict("logwood monitor", "the same, with our witness as second source", l.judgeMonitor(policyFile, sources...))
	}
	b.verdict("tessera", "a fork of its log, which our witness must refuse", l.judgeFork(w, old))
	b.verdict("logwood witness", "refuses what Tessera's key must not sign", l.judgeHostile(w))
}

// judgeCosigned opens the log's checkpoint under the keys of log and witness with both of the libraries, and what the
// witness shows under its other key too.
func (l *tesseraLog) judgeCosigned(w *ourWitness) error {
	published, err := os.ReadFile(filepath.Join(l.dir, "checkpoint"))
	if err != nil {
		return err
	}
	if err := l.judgeOpen(published, w.policy(l.vkey, w.vkeys[0]), w.vkeys[0]); err != nil {
		return fmt.Errorf("the published checkpoint: %w", err)
	}
	shown, err := w.shown(l.signer.Name())
	if err != nil {
		return err
	}
	for _, vkey := range w.vkeys {
		if err := l.judgeOpen(shown, w.policy(l.vkey, vkey), vkey); err != nil {
			return fmt.Errorf("what the witness shows: %w", err)
		}
	}
	return nil
}

func (l *tesseraLog) judgeOpen(checkpoint, policyText []byte, cosigner string) error {
	policy, err := torchwood.ParsePolicy(policyText)
	if err != nil {
		return err
	}
	opened, _, err := torchwood.VerifyCheckpoint(checkpoint, policy)
	if err != nil {
		return err
	}
	if opened.N != int64(l.size) {
		return fmt.Errorf("it has size %d, not %d", opened.N, l.size)
	}
	verifier, err := f_note.NewVerifierForCosignatureV1(cosigner)
	if err != nil {
		return err
	}
	cosigned, err := note.Open(checkpoint, note.VerifierList(verifier))
	if err != nil {
		return err
	}
	at, err := f_note.CoSigV1Timestamp(cosigned.Sigs[0])
	if err == nil && time.Since(at).Abs() > clockDifference {
		err = fmt.Errorf("it was cosigned at %s", at)
	}
	return err
}

// A line is what `logwood monitor --out` writes of an entry.
type line struct {
	Key   string
	Entry []byte
}

// judgeMonitor runs a round of our monitor: with it, --out must hold every entry once, in order. The state is of these
// sources alone.
func (l *tesseraLog) judgeMonitor(policyFile string, sources ...string) error {
	state := fmt.Sprintf("%s.monitor-of-%d", l.dir, len(sources))
	out := state + ".ndjson"
	args := []string{"monitor", "--once", "--state", state, "--policy", policyFile, "--out", out, "--evidence-dir", state + ".evidence"}
	for _, source := range sources {
		args = append(args, "--source", source)
	}
	if _, err := l.bench.command(l.bench.logwood, args...); err != nil {
		return err
	}
	content, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	index := 0
	for raw := range bytes.Lines(content) {
		var written line
		if err := json.Unmarshal(raw, &written); err != nil {
			return err
		}
		key := fmt.Sprintf("%s#%d", l.signer.Name(), index)
		if written.Key != key || !bytes.Equal(written.Entry, entryOf(index)) {
			return fmt.Errorf("line %d of --out is %q", index+1, raw)
		}
		index++
	}
	if index != l.size {
		return fmt.Errorf("--out has %d entries, and the log %d", index, l.size)
	}
	return nil
}

// judgeFork has Tessera go on with an old copy of its log, in another way. It integrates the entries and gets no
// cosignature, so it publishes nothing of that; our witness keeps what it had.
func (l *tesseraLog) judgeFork(w *ourWitness, old string) error {
	before, err := w.shown(l.signer.Name())
	if err != nil {
		return err
	}
	published, err := os.ReadFile(filepath.Join(old, "checkpoint"))
	if err != nil {
		return err
	}
	head, err := receipt.OpenCheckpoint(l.vkey, published)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(l.bench.ctx, forkTimeout)
	defer cancel()
	impatient := *l.bench
	impatient.ctx = ctx
	fork := *l
	fork.bench, fork.dir, fork.size, fork.first = &impatient, old, int(head.Size), 1_000_000
	size := l.size + 10
	if err := fork.grow(size); err == nil {
		return errors.New("it was published")
	} else if fork.size != size {
		return fmt.Errorf("it did not get so far: %w", err)
	}
	after, err := os.ReadFile(filepath.Join(old, "checkpoint"))
	if err == nil && !bytes.Equal(after, published) {
		err = fmt.Errorf("it published %s", after)
	}
	if err != nil {
		return err
	}
	after, err = w.shown(l.signer.Name())
	if err == nil && !bytes.Equal(before, after) {
		err = fmt.Errorf("the witness shows %s", after)
	}
	return err
}

// judgeHostile has our witness refuse the key of Tessera's log, when it signs what the log never was.
func (l *tesseraLog) judgeHostile(w *ourWitness) error {
	checkpoint, err := w.shown(l.signer.Name())
	if err != nil {
		return err
	}
	last, err := receipt.OpenCheckpoint(l.vkey, checkpoint)
	if err != nil {
		return err
	}
	forger := &forger{origin: l.signer.Name(), signer: l.signer, last: last, checkpoint: checkpoint}
	if err := forger.judgeRefusals(w.url(), nil); err != nil {
		return err
	}
	after, err := w.shown(l.signer.Name())
	if err != nil {
		return err
	}
	head, err := receipt.OpenCheckpoint(l.vkey, after)
	if err == nil && head != last {
		err = errors.New("it shows another head")
	}
	return err
}
