package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// growths of a log between two looks at it: with proofs from nothing, within a tile, and across tiles.
var growths = []int{1, 7, 300, 1000}

// judgeWitnesses has our log witnessed by programs of others: by each alone, and by both at once.
func (b *bench) judgeWitnesses() {
	b.judgeWitness("omniwitness", newOmniwitness)
	b.judgeWitness("litewitness", newLitewitness)
	b.judgeBoth()
}

// judgeWitness has our log witnessed by one foreign witness.
func (b *bench) judgeWitness(name string, make func(*bench, *log) (*foreign, error)) {
	w, err := b.watch("watched-by-"+name, make)
	if err != nil {
		b.verdict(name, "did not start, so it did not run", err)
		return
	}
	defer w.stop()
	for _, count := range growths {
		err := w.grow(count)
		if err == nil {
			_, err = w.awaitWitnessed()
		}
		b.verdict(name, fmt.Sprintf("cosigns our checkpoint of %d, and has it on record", w.size), err)
	}
	b.verdict("logwood head", "--witnessed, cosigned by "+name, w.judgeHead())
	b.verdict("logwood verify", "a receipt that waited for "+name, w.judgeAppend())
	b.verdict("logwood verify", "a receipt refreshed under "+name, w.judgeRefresh())
	b.verdict(name, "refuses what our log's key must not sign", w.judgeHostile(w.witnesses[0]))
	err = w.grow(5)
	if err == nil {
		_, err = w.awaitWitnessed()
	}
	b.verdict(name, "cosigns our log after that", err)
	b.verdict("logwood serve", "an old copy that "+name+" knows better than, refuses to sign", w.judgeOldCopy())
}

// judgeOldCopy starts an old copy of the log's data, with its key and anchor. It must not sign.
func (w *watchedLog) judgeOldCopy() error {
	b := w.server.bench
	data, old := w.server.data, w.server.data+"-old"
	w.server.stop()
	if _, err := b.command("cp", "-a", data, old); err != nil {
		return err
	}
	if err := errors.Join(w.restart(), w.grow(3)); err != nil {
		return err
	}
	if _, err := w.awaitWitnessed(); err != nil {
		return err
	}
	w.server.stop()
	server, err := b.serve(filepath.Base(old), "--config", w.config)
	if err != nil {
		return err
	}
	copied := *w.log
	copied.server = server
	err = copied.appendNumbers(1)
	server.stop()
	if err == nil || !strings.Contains(err.Error(), "has cosigned") {
		return fmt.Errorf("an append was not refused as it should be: %w", err)
	}
	if err := errors.Join(w.restart(), w.grow(1)); err != nil {
		return err
	}
	_, err = w.awaitWitnessed()
	return err
}

// judgeBoth has our log witnessed by both, of which one dies and comes back.
func (b *bench) judgeBoth() {
	w, err := b.watch("watched-by-both", newOmniwitness, newLitewitness)
	if err != nil {
		b.verdict("both witnesses", "did not start, so they did not run", err)
		return
	}
	defer w.stop()
	err = w.grow(300)
	if err == nil {
		_, err = w.awaitWitnessed()
	}
	b.verdict("both witnesses", fmt.Sprintf("cosign our checkpoint of %d", w.size), err)
	b.verdict("logwood verify", "a receipt that waited for both witnesses", w.judgeAppend())
	for _, witness := range w.witnesses {
		b.verdict("both witnesses", "our log goes on without "+witness.name+", and says so", w.judgeWithout(witness))
		err := witness.start()
		if err == nil {
			_, err = w.awaitWitnessed()
		}
		b.verdict("both witnesses", "cosign what came while "+witness.name+" was away", err)
		b.verdict("logwood verify", "a receipt refreshed after that", w.judgeRefresh())
	}
}

// judgeWithout kills a witness: appends go on, the head is published without quorum, and all of that can be seen.
func (w *watchedLog) judgeWithout(dead *foreign) error {
	before := w.size
	dead.kill()
	if err := w.grow(20); err != nil {
		return err
	}
	if err := w.awaitPublished(w.size); err != nil {
		return err
	}
	checkpoint, err := fetch(w.url() + "checkpoint")
	if err != nil {
		return err
	}
	if w.judgeCheckpoint(checkpoint) == nil {
		return errors.New("a checkpoint has the quorum without it")
	}
	if err := w.server.bench.await(func() error { return w.judgeStatus(dead, before) }); err != nil {
		return err
	}
	// Whoever wants a quorum is told the last head that has one.
	if err := w.judgeHeadOf(before); err != nil {
		return fmt.Errorf("logwood head --witnessed: %w", err)
	}
	return nil
}

// judgeStatus looks for a dead witness, and for the last size with a quorum, in the log's description and metrics.
func (w *watchedLog) judgeStatus(dead *foreign, witnessed int) error {
	described, err := w.describe()
	if err != nil {
		return err
	}
	for _, status := range described.Witnesses {
		isDead := strings.Contains(status.Name, dead.name)
		if isDead != (status.Problem != "") || isDead && status.Failures == 0 {
			return fmt.Errorf("%s has %d failures, the last is %q", status.Name, status.Failures, status.Problem)
		}
	}
	metrics, err := fetch(fmt.Sprintf("http://%s/metrics", w.server.http))
	if err != nil {
		return err
	}
	for _, line := range []string{
		fmt.Sprintf("logwood_log_witnessed_entries{log=%q} %d\n", w.name, witnessed),
		fmt.Sprintf("logwood_log_published_entries{log=%q} %d\n", w.name, w.size),
	} {
		if !strings.Contains(string(metrics), line) {
			return fmt.Errorf("the metrics have no line %q", line)
		}
	}
	return nil
}
