package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	f_note "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/witness/persistence/sqlite"
	"golang.org/x/mod/sumdb/note"

	"logwood.invalid/examples/go/receipt"
)

const (
	// startTimeout is for a process to listen, or to do what it was asked.
	startTimeout = 30 * time.Second
	pollInterval = 20 * time.Millisecond
)

// A foreign is a witness that others wrote: a process, its keys, and what it has on record.
type foreign struct {
	bench *bench
	// name is the judge's, and its member's in policies.
	name string
	tool string
	dir  string
	// address is the same after a restart, since policies name it.
	address string
	args    []string
	vkeys   []string
	// view is what it has recorded of a log, read from its own database.
	view func(l *log) (receipt.Head, error)
	// differs says where its answers are known not to be those of the specification.
	differs map[string]int
	process *exec.Cmd
}

// newOmniwitness makes a witness for a log, with keys of both kinds that cosign.
func newOmniwitness(b *bench, l *log) (*foreign, error) {
	w, err := newForeign(b, "omniwitness", omniwitness)
	if err != nil {
		return nil, err
	}
	classic, public, err := note.GenerateKey(nil, "omniwitness.test/classic")
	if err != nil {
		return nil, err
	}
	if public, err = f_note.VKeyToCosignatureV1(public); err != nil {
		return nil, err
	}
	postQuantum, postQuantumPublic, err := f_note.GenerateMLDSAKey("omniwitness.test/post-quantum")
	if err != nil {
		return nil, err
	}
	w.vkeys = []string{public, postQuantumPublic}
	logs := fmt.Sprintf("Logs:\n  - Origin: %s\n    PublicKey: %s\n", l.origin(), l.vkey)
	err = errors.Join(
		os.WriteFile(w.file("classic.key"), []byte(classic), 0o600),
		os.WriteFile(w.file("post-quantum.key"), []byte(postQuantum), 0o600),
		os.WriteFile(w.file("logs.yaml"), []byte(logs), 0o644),
	)
	w.args = []string{"--listen", w.address, "--metrics_listen", "", "--db_file", w.file("omniwitness.db"),
		"--additional_logs", w.file("logs.yaml"),
		"--private_key_path", w.file("classic.key"), "--private_key_path", w.file("post-quantum.key")}
	w.view = w.omniwitnessView
	// Two refusals have the status of a failure.
	w.differs = map[string]int{unknownLog: 500, otherKey: 500, badSignature: 500}
	return w, err
}

func (w *foreign) omniwitnessView(l *log) (receipt.Head, error) {
	ctx, cancel := context.WithCancel(w.bench.ctx)
	defer cancel()
	database, closeDatabase, err := sqlite.New(ctx, sqlite.Opts{Path: w.file("omniwitness.db")})
	if err != nil {
		return receipt.Head{}, err
	}
	defer closeDatabase()
	checkpoint, err := database.Latest(ctx, l.origin())
	if err != nil {
		return receipt.Head{}, err
	}
	return receipt.OpenCheckpoint(l.vkey, checkpoint)
}

// newForeign gives a witness a directory and a port.
func newForeign(b *bench, name, tool string) (*foreign, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	dir, err := os.MkdirTemp(b.dir, name+"-")
	return &foreign{bench: b, name: name, tool: tool, dir: dir, address: listener.Addr().String()}, err
}

func (w *foreign) file(name string) string { return filepath.Join(w.dir, name) }
func (w *foreign) url() string             { return "http://" + w.address }

// lines declare it in a policy, as one member: all of its keys must have signed.
func (w *foreign) lines() string {
	var lines strings.Builder
	members := ""
	for number, vkey := range w.vkeys {
		member := fmt.Sprintf("%s-%d", w.name, number)
		fmt.Fprintf(&lines, "witness %s %s %s\n", member, vkey, w.url())
		members += " " + member
	}
	fmt.Fprintf(&lines, "group %s all%s\n", w.name, members)
	return lines.String()
}

// start returns once the witness listens.
func (w *foreign) start() error {
	w.process = exec.Command(w.bench.tool(w.tool), w.args...)
	messages, err := os.OpenFile(w.file("messages"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer messages.Close()
	w.process.Stdout, w.process.Stderr = messages, messages
	if err := w.process.Start(); err != nil {
		return err
	}
	err = w.bench.await(func() error {
		conn, err := net.Dial("tcp", w.address)
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		w.kill()
		said, _ := os.ReadFile(w.file("messages"))
		return fmt.Errorf("%w: %s", err, lastLines(string(said)))
	}
	return nil
}

// kill ends it as a power cut would.
func (w *foreign) kill() {
	if w.process != nil {
		w.process.Process.Kill()
		w.process.Wait()
		w.process = nil
	}
}

// await tries until there is no error, or for startTimeout.
func (b *bench) await(try func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-b.ctx.Done():
			return err
		case <-time.After(pollInterval):
		}
	}
}
