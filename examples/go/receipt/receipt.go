// Package receipt verifies Logwood's receipts with libraries that are not Logwood's: Go's own implementation of
// signed notes and of RFC 6962 trees, as its checksum database uses them.
package receipt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const header = "c2sp.org/tlog-proof@v1"

// A Receipt is a C2SP tlog-proof: an index, an inclusion proof, and the checkpoint that the proof leads to.
type Receipt struct {
	Index      int64
	Proof      tlog.RecordProof
	Checkpoint []byte
}

// A Head is the size and root of a tree that a log has signed.
type Head struct {
	Size int64
	Root tlog.Hash
}

// Parse reads a receipt file.
func Parse(file []byte) (Receipt, error) {
	lines, checkpoint, found := bytes.Cut(file, []byte("\n\n"))
	if !found {
		return Receipt{}, errors.New("no empty line before the checkpoint")
	}
	rest := strings.Split(string(lines), "\n")
	if rest[0] != header {
		return Receipt{}, fmt.Errorf("the first line is not %q", header)
	}
	rest = rest[1:]
	if len(rest) > 0 && strings.HasPrefix(rest[0], "extra ") {
		rest = rest[1:] // nothing vouches for it
	}
	if len(rest) == 0 || !strings.HasPrefix(rest[0], "index ") {
		return Receipt{}, errors.New("no index line")
	}
	index, err := decimal(strings.TrimPrefix(rest[0], "index "))
	if err != nil {
		return Receipt{}, fmt.Errorf("index: %w", err)
	}
	proof := make(tlog.RecordProof, 0, len(rest)-1)
	for _, line := range rest[1:] {
		hash, err := parseHash(line)
		if err != nil {
			return Receipt{}, fmt.Errorf("proof: %w", err)
		}
		proof = append(proof, hash)
	}
	return Receipt{Index: index, Proof: proof, Checkpoint: checkpoint}, nil
}

// Verify says whether the log with the key vkey has signed a head of a tree that holds entry at the receipt's
// index. It returns that head.
func (r Receipt) Verify(vkey string, entry []byte) (Head, error) {
	head, err := OpenCheckpoint(vkey, r.Checkpoint)
	if err != nil {
		return Head{}, err
	}
	if r.Index >= head.Size {
		return Head{}, fmt.Errorf("index %d is not in a tree of %d", r.Index, head.Size)
	}
	if err := tlog.CheckRecord(r.Proof, head.Size, head.Root, r.Index, tlog.RecordHash(entry)); err != nil {
		return Head{}, fmt.Errorf("inclusion proof: %w", err)
	}
	return head, nil
}

// OpenCheckpoint verifies the signature of a checkpoint, and that its origin is the name of the key.
func OpenCheckpoint(vkey string, checkpoint []byte) (Head, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return Head{}, fmt.Errorf("vkey: %w", err)
	}
	signed, err := note.Open(checkpoint, note.VerifierList(verifier))
	if err != nil {
		return Head{}, fmt.Errorf("checkpoint: %w", err)
	}
	for _, signature := range signed.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(signature.Base64); err != nil {
			return Head{}, fmt.Errorf("checkpoint: signature: %w", err)
		}
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 {
		return Head{}, errors.New("checkpoint: fewer than three lines")
	}
	if lines[0] != verifier.Name() {
		return Head{}, fmt.Errorf("checkpoint: of %q, but the key is that of %q", lines[0], verifier.Name())
	}
	size, err := decimal(lines[1])
	if err != nil {
		return Head{}, fmt.Errorf("checkpoint: size: %w", err)
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return Head{}, fmt.Errorf("checkpoint: root: %w", err)
	}
	return Head{Size: size, Root: root}, nil
}

// Extends says whether the tree of newer begins with the tree of older.
func Extends(older, newer Head, proof [][]byte) error {
	if older.Size == 0 {
		return nil
	}
	if older.Size > newer.Size {
		return fmt.Errorf("a head of size %d came after one of %d", newer.Size, older.Size)
	}
	hashes, err := Hashes(proof)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(hashes, newer.Size, newer.Root, older.Size, older.Root); err != nil {
		return fmt.Errorf("consistency proof: %w", err)
	}
	return nil
}

// Hashes converts the hashes of an answer.
func Hashes(raw [][]byte) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(raw))
	for i, hash := range raw {
		if len(hash) != tlog.HashSize {
			return nil, fmt.Errorf("hash %d has %d bytes, not %d", i, len(hash), tlog.HashSize)
		}
		hashes[i] = tlog.Hash(hash)
	}
	return hashes, nil
}

// Format writes the receipt file that Parse reads.
func (r Receipt) Format() []byte {
	var file bytes.Buffer
	fmt.Fprintf(&file, "%s\nindex %d\n", header, r.Index)
	for _, hash := range r.Proof {
		fmt.Fprintln(&file, base64.StdEncoding.EncodeToString(hash[:]))
	}
	file.WriteString("\n")
	file.Write(r.Checkpoint)
	return file.Bytes()
}

// parseHash refuses a second spelling of the same hash, which base64 in Go would let pass.
func parseHash(text string) (tlog.Hash, error) {
	hash, err := tlog.ParseHash(text)
	if err == nil && hash.String() != text {
		err = fmt.Errorf("%q is not canonical base64", text)
	}
	return hash, err
}

func decimal(text string) (int64, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, err
	}
	if strconv.FormatInt(number, 10) != text || number < 0 {
		return 0, fmt.Errorf("%q is not a decimal without leading zeroes", text)
	}
	return number, nil
}
