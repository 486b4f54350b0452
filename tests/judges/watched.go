package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"filippo.io/torchwood"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"logwood.invalid/examples/go/logwoodv1"
	"logwood.invalid/examples/go/receipt"
)

// clockDifference is how far the time of a cosignature may be from ours.
const clockDifference = time.Hour

// A watchedLog is a log of ours with foreign witnesses, whose quorum are all of them.
type watchedLog struct {
	*log
	policyFile string
	// policy is the same file, as torchwood reads it.
	policy    torchwood.Policy
	witnesses []*foreign
	config    string
	size      int
}

// watch makes a log in a data directory of that name, and has it ask witnesses.
func (b *bench) watch(name string, witnesses ...func(*bench, *log) (*foreign, error)) (*watchedLog, error) {
	first, err := b.serve(name)
	if err != nil {
		return nil, err
	}
	// Witnesses must know the log's key before it asks them.
	l, err := first.open("default")
	first.stop()
	if err != nil {
		return nil, err
	}
	w := &watchedLog{log: l, policyFile: first.data + ".policy", config: first.data + ".toml"}
	text, members := fmt.Sprintf("log %s\n", l.vkey), ""
	for _, make := range witnesses {
		witness, err := make(b, l)
		if err == nil {
			w.witnesses = append(w.witnesses, witness)
			err = witness.start()
		}
		if err != nil {
			w.stop()
			return nil, err
		}
		text += witness.lines()
		members += " " + witness.name
	}
	text += fmt.Sprintf("group everybody all%s\nquorum everybody\n", members)
	config := fmt.Sprintf("witness-deadline-ms = 500\n[logs.default]\npolicy = %q\n", w.policyFile)
	err = errors.Join(os.WriteFile(w.policyFile, []byte(text), 0o644), os.WriteFile(w.config, []byte(config), 0o644))
	if err == nil {
		w.policy, err = torchwood.ParsePolicy([]byte(text))
	}
	if err == nil {
		err = w.restart()
	}
	if err != nil {
		w.stop()
	}
	return w, err
}

// restart starts the server, which must not run.
func (w *watchedLog) restart() error {
	server, err := w.server.bench.serve(filepath.Base(w.server.data), "--config", w.config)
	if err == nil {
		w.server = server
	}
	return err
}

func (w *watchedLog) stop() {
	w.server.stop()
	for _, witness := range w.witnesses {
		witness.kill()
	}
}

// grow appends count entries.
func (w *watchedLog) grow(count int) error {
	if err := w.appendNumbers(count); err != nil {
		return err
	}
	w.size += count
	return nil
}

// awaitWitnessed waits for a checkpoint over HTTP of the log's size with all cosignatures, by torchwood's own rules. It
// is also what each witness must have on record.
func (w *watchedLog) awaitWitnessed() ([]byte, error) {
	var checkpoint []byte
	err := w.server.bench.await(func() (err error) {
		if checkpoint, err = fetch(w.url() + "checkpoint"); err == nil {
			err = w.judgeCheckpoint(checkpoint)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	head, err := receipt.OpenCheckpoint(w.vkey, checkpoint)
	if err != nil {
		return nil, err
	}
	for _, witness := range w.witnesses {
		view, err := witness.view(w.log)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", witness.name, err)
		}
		if view != head {
			return nil, fmt.Errorf("%s has %v on record, and the log's head is %v", witness.name, view, head)
		}
	}
	return checkpoint, nil
}

// judgeCheckpoint has torchwood judge a checkpoint of the log's size under the policy.
func (w *watchedLog) judgeCheckpoint(signed []byte) error {
	checkpoint, opened, err := torchwood.VerifyCheckpoint(signed, w.policy)
	if err != nil {
		return fmt.Errorf("%w: %s", err, signed)
	}
	if checkpoint.N < int64(w.size) {
		return fmt.Errorf("the checkpoint has size %d, not %d", checkpoint.N, w.size)
	}
	for _, signature := range opened.Sigs {
		if signature.Name == w.origin() {
			continue
		}
		seconds, err := torchwood.CosignatureTimestamp(signature)
		if err != nil {
			return err
		}
		if age := time.Since(time.Unix(seconds, 0)).Abs(); age > clockDifference {
			return fmt.Errorf("%s cosigned at %d", signature.Name, seconds)
		}
	}
	return nil
}

// judgeHead has our command fetch the witnessed head of the log's size, and torchwood judge it.
func (w *watchedLog) judgeHead() error {
	return w.judgeHeadOf(w.size)
}

func (w *watchedLog) judgeHeadOf(size int) error {
	output := filepath.Join(w.server.bench.dir, "head")
	if _, err := w.ask("head", "--witnessed", "--out", output); err != nil {
		return err
	}
	checkpoint, err := os.ReadFile(output)
	if err != nil {
		return err
	}
	head, err := receipt.OpenCheckpoint(w.vkey, checkpoint)
	if err == nil && head.Size != int64(size) {
		err = fmt.Errorf("it has size %d, not %d", head.Size, size)
	}
	if err != nil {
		return err
	}
	_, _, err = torchwood.VerifyCheckpoint(checkpoint, w.policy)
	return err
}

// ask runs a client command of ours that trusts the policy.
func (w *watchedLog) ask(command string, args ...string) (string, error) {
	all := []string{command, "--server", w.server.url(), "--policy", w.policyFile, "--client-state", w.server.clientState()}
	return w.server.bench.command(w.server.bench.logwood, append(all, args...)...)
}

// judgeAppend appends an entry that waits for the witnesses: its receipt must verify under the policy.
func (w *watchedLog) judgeAppend() error {
	conn, err := grpc.NewClient(w.server.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	entry := fmt.Appendf(nil, "entry %d, which waits", w.size)
	answer, err := logwoodv1.NewLogServiceClient(conn).Append(w.server.bench.ctx, &logwoodv1.AppendRequest{
		Log: w.name, Entry: entry, Wait: logwoodv1.HeadLevel_HEAD_LEVEL_WITNESSED,
	})
	if err != nil {
		return err
	}
	w.size++
	if level := answer.GetHead().GetLevel(); level != logwoodv1.HeadLevel_HEAD_LEVEL_WITNESSED {
		return fmt.Errorf("the answer has a head of level %s", level)
	}
	proof, err := receipt.Hashes(answer.GetInclusion())
	if err != nil {
		return err
	}
	made := receipt.Receipt{Index: int64(answer.GetIndex()), Proof: proof, Checkpoint: answer.GetHead().GetCheckpoint()}
	return w.judgeReceipt(made.Format(), entry)
}

// judgeReceipt has both judge a receipt under the policy: our command, and torchwood with Go's trees.
func (w *watchedLog) judgeReceipt(file, entry []byte) error {
	parsed, err := receipt.Parse(file)
	if err != nil {
		return err
	}
	if _, err := parsed.Verify(w.vkey, entry); err != nil {
		return err
	}
	if err := w.judgeCheckpoint(parsed.Checkpoint); err != nil {
		return err
	}
	receiptFile, entryFile := w.server.data+".tlog-proof", w.server.data+".entry"
	if err := errors.Join(os.WriteFile(receiptFile, file, 0o644), os.WriteFile(entryFile, entry, 0o644)); err != nil {
		return err
	}
	_, err = w.server.bench.command(w.server.bench.logwood, "verify", "--policy", w.policyFile, receiptFile, entryFile)
	return err
}

// judgeRefresh appends an entry that waits for nobody, and gives its receipt a witnessed head: before, it must not
// verify under the policy, and after, it must.
func (w *watchedLog) judgeRefresh() error {
	b := w.server.bench
	entry := fmt.Sprintf("entry %d, which does not wait", w.size)
	entryFile, receipts := w.server.data+".line", w.server.data+"-receipts"
	if err := os.WriteFile(entryFile, []byte(entry), 0o644); err != nil {
		return err
	}
	if err := w.append(entryFile, "--receipts", receipts, "--settle-within", "0"); err != nil {
		return err
	}
	w.size++
	receiptFile := filepath.Join(receipts, "1.tlog-proof")
	if err := b.refuses("verify", "--policy", w.policyFile, receiptFile, entryFile); err != nil {
		return err
	}
	if _, err := w.awaitWitnessed(); err != nil {
		return err
	}
	if _, err := w.ask("prove", "--refresh", receiptFile, "--witnessed", "--out", receiptFile); err != nil {
		return err
	}
	refreshed, err := os.ReadFile(receiptFile)
	if err != nil {
		return err
	}
	return w.judgeReceipt(refreshed, []byte(entry))
}
