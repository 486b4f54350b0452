package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// growths of a log between two looks at it: with proofs from nothing, within a tile, and across tiles.
var growths = []int{1, 7, 300, 1000}

// judgeOmniwitness has our log witnessed by omniwitness alone.
func (b *bench) judgeOmniwitness() {
	b.judgeWitness("omniwitness", newOmniwitness)
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
