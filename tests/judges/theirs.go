package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"logwood.invalid/examples/go/receipt"
)

const (
	tesseraBatch    = 1024
	tesseraInterval = 100 * time.Millisecond
)

// A tesseraLog is a log that Tessera keeps in a directory, and a web server of files publishes.
type tesseraLog struct {
	bench  *bench
	dir    string
	url    string
	vkey   string
	signer note.Signer
	size   int
	// first is the number of the first entry: two logs of one number have the same entries.
	first int
	// witnesses cosign what it publishes.
	witnesses tessera.WitnessGroup
}

// judgeTessera has Logwood judge a log of Tessera's: by `fsck URL`, also after it has grown, and by `verify`.
func (b *bench) judgeTessera() {
	l, err := b.newTesseraLog("tessera")
	if err != nil {
		b.verdict("logwood fsck", "Tessera's log could not be made, so it did not run", err)
		return
	}
	state := filepath.Join(b.dir, "tessera.state")
	for _, size := range []int{1, 300, 66_000} {
		err := l.grow(size)
		if err == nil {
			_, err = b.command(b.logwood, "fsck", l.url, "--vkey", l.vkey, "--state", state)
		}
		b.verdict("logwood fsck", fmt.Sprintf("Tessera's log of %d, continued", size), err)
	}
	_, err = b.command(b.logwood, "fsck", l.url, "--vkey", l.vkey)
	b.verdict("logwood fsck", "Tessera's log, at once", err)
	for _, index := range []int{0, 255, 256, 65_999} {
		b.verdict("logwood verify", fmt.Sprintf("a receipt for entry %d of Tessera's log", index), l.judgeReceipt(index))
	}
	err = flipBit(filepath.Join(l.dir, "tile", "entries", "100"))
	if err == nil {
		err = b.refuses("fsck", l.url, "--vkey", l.vkey)
	}
	b.verdict("logwood fsck", "Tessera's log with a flipped bit, which it must refuse", err)
}

func (b *bench) newTesseraLog(name string) (*tesseraLog, error) {
	private, vkey, err := note.GenerateKey(nil, "tessera.test/log")
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, name)
	go http.Serve(listener, http.FileServer(http.Dir(dir)))
	url := fmt.Sprintf("http://%s/", listener.Addr())
	return &tesseraLog{bench: b, dir: dir, url: url, vkey: vkey, signer: signer}, nil
}

func entryOf(index int) []byte {
	return fmt.Appendf(nil, "their entry number %d", index)
}

// grow appends up to size, and returns once a checkpoint of that size is published.
func (l *tesseraLog) grow(size int) error {
	// Some of Tessera's tasks outlive its shutdown, and end only with this.
	ctx, cancel := context.WithCancel(l.bench.ctx)
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: l.dir})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(l.signer).
		WithBatching(tesseraBatch, tesseraInterval).
		WithCheckpointInterval(tesseraInterval)
	if len(l.witnesses.Components) > 0 {
		options = options.WithWitnesses(l.witnesses, nil).WithCheckpointInterval(witnessedInterval)
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, tesseraInterval)
	for l.size < size {
		// One batch at a time, because Tessera orders what it is given at once as it likes.
		futures := make([]tessera.IndexFuture, min(tesseraBatch, size-l.size))
		for i := range futures {
			futures[i] = appender.Add(ctx, tessera.NewEntry(entryOf(l.first+l.size+i)))
		}
		for i, future := range futures {
			index, err := future()
			if err != nil {
				return err
			}
			if index.Index != uint64(l.size+i) {
				return fmt.Errorf("entry %d was given index %d", l.size+i, index.Index)
			}
		}
		l.size += len(futures)
		if l.size == size {
			if _, _, err := awaiter.Await(ctx, futures[len(futures)-1]); err != nil {
				return err
			}
		}
	}
	return shutdown(ctx)
}

// judgeReceipt makes a receipt with Tessera's proof of an entry, and has `logwood verify` judge it: with its entry, and
// with another one, which it must refuse.
func (l *tesseraLog) judgeReceipt(index int) error {
	ctx := l.bench.ctx
	files := client.FileFetcher{Root: l.dir}
	checkpoint, err := files.ReadCheckpoint(ctx)
	if err != nil {
		return err
	}
	builder, err := client.NewProofBuilder(ctx, uint64(l.size), files.ReadTile)
	if err != nil {
		return err
	}
	proof, err := builder.InclusionProof(ctx, uint64(index))
	if err != nil {
		return err
	}
	hashes, err := receipt.Hashes(proof)
	if err != nil {
		return err
	}
	made := receipt.Receipt{Index: int64(index), Proof: tlog.RecordProof(hashes), Checkpoint: checkpoint}
	receiptFile, entryFile := filepath.Join(l.bench.dir, "theirs.tlog-proof"), filepath.Join(l.bench.dir, "theirs")
	if err := errors.Join(os.WriteFile(receiptFile, made.Format(), 0o644), os.WriteFile(entryFile, entryOf(index), 0o644)); err != nil {
		return err
	}
	if _, err := l.bench.command(l.bench.logwood, "verify", "--vkey", l.vkey, receiptFile, entryFile); err != nil {
		return err
	}
	if err := os.WriteFile(entryFile, bytes.ToUpper(entryOf(index)), 0o644); err != nil {
		return err
	}
	return l.bench.refuses("verify", "--vkey", l.vkey, receiptFile, entryFile)
}

// refuses demands that Logwood says "lying": exit status 3.
func (b *bench) refuses(args ...string) error {
	output, err := b.command(b.logwood, args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return nil
	}
	return fmt.Errorf("exit status 3 was expected: %v: %s", err, lastLines(output))
}
