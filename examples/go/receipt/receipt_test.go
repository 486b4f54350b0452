package receipt

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// aLog is a tree and a key, made by the libraries alone.
type aLog struct {
	t      *testing.T
	vkey   string
	signer note.Signer
	hashes []tlog.Hash
}

func (l *aLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	read := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		read[i] = l.hashes[index]
	}
	return read, nil
}

func newLog(t *testing.T, entries int64) *aLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, "example.com/logs/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	log := &aLog{t: t, vkey: vkey, signer: signer}
	for n := range entries {
		hashes, err := tlog.StoredHashes(n, entry(n), log)
		if err != nil {
			t.Fatal(err)
		}
		log.hashes = append(log.hashes, hashes...)
	}
	return log
}

func entry(n int64) []byte { return fmt.Appendf(nil, "event %d", n) }

func (l *aLog) receipt(index, size int64) Receipt {
	l.t.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		l.t.Fatal(err)
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.signer.Name(), size, root)
	checkpoint, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	proof, err := tlog.ProveRecord(size, index, l)
	if err != nil {
		l.t.Fatal(err)
	}
	return Receipt{Index: index, Proof: proof, Checkpoint: checkpoint}
}

func TestEveryEntryOfEverySmallTree(t *testing.T) {
	const most = 20
	log := newLog(t, most)
	for size := int64(1); size <= most; size++ {
		for index := range size {
			parsed, err := Parse(log.receipt(index, size).Format())
			if err != nil {
				t.Fatalf("entry %d of %d: %v", index, size, err)
			}
			if _, err := parsed.Verify(log.vkey, entry(index)); err != nil {
				t.Errorf("entry %d of %d: %v", index, size, err)
			}
			if _, err := parsed.Verify(log.vkey, entry(index+1)); err == nil {
				t.Errorf("entry %d of %d: another entry passed", index, size)
			}
		}
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	log := newLog(t, 7)
	file := log.receipt(3, 7).Format()
	for bit := range 8 * len(file) {
		flipped := bytes.Clone(file)
		flipped[bit/8] ^= 1 << (bit % 8)
		parsed, err := Parse(flipped)
		if err == nil {
			_, err = parsed.Verify(log.vkey, entry(3))
		}
		if err == nil {
			t.Errorf("bit %d of byte %d (%q) may be flipped", bit%8, bit/8, file[bit/8])
		}
	}
}

func TestAHeadOfAnotherHistoryIsRefused(t *testing.T) {
	log := newLog(t, 7)
	older, _ := log.receipt(0, 4).Verify(log.vkey, entry(0))
	newer, _ := log.receipt(0, 7).Verify(log.vkey, entry(0))
	proof, err := tlog.ProveTree(7, 4, log)
	if err != nil {
		t.Fatal(err)
	}
	var raw [][]byte
	for _, hash := range proof {
		raw = append(raw, bytes.Clone(hash[:]))
	}
	if err := Extends(older, newer, raw); err != nil {
		t.Error(err)
	}
	older.Root[0] ^= 1
	if err := Extends(older, newer, raw); err == nil {
		t.Error("another root passed")
	}
	if err := Extends(newer, older, nil); err == nil {
		t.Error("a smaller head passed")
	}
}
