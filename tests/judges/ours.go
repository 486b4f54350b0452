package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"logwood.invalid/examples/go/logwoodv1"
	"logwood.invalid/examples/go/receipt"
)

// fsck has Tessera's fsck judge the log at url. Its exit status is 0 whatever it finds; only its words tell.
func (b *bench) fsck(url, keyFile string) error {
	output, err := b.command(b.tool(tesseraFsck), "--storage_url", url, "--public_key", keyFile, "--ui=false", "--N=8", "--logtostderr")
	if err == nil && !strings.Contains(output, "Successfully fsck'd log") {
		err = errors.New(lastLines(output))
	}
	return err
}

func (b *bench) judgeSize(s *server, size int) error {
	l, err := s.create(fmt.Sprintf("size-%d", size))
	if err != nil {
		return err
	}
	if err := l.appendNumbers(size); err != nil {
		return err
	}
	if err := l.awaitPublished(size); err != nil {
		return err
	}
	return b.fsck(l.url(), l.keyFile)
}

// judgeClone has Tessera's mirror clone the largest log, and its fsck judge the clone: as it is, and with one bit
// flipped, which shows that this judge can say no.
func (b *bench) judgeClone(s *server) {
	size := sizes[len(sizes)-1]
	clone := filepath.Join(b.dir, "clone")
	l, err := s.open(fmt.Sprintf("size-%d", size))
	if err == nil {
		var output string
		output, err = b.command(b.tool(tesseraMirror), "--storage_dir", clone, "--source_url", l.url(), "--logtostderr")
		if err == nil && !strings.Contains(output, "Log mirrored successfully") {
			err = errors.New(lastLines(output))
		}
	}
	b.verdict("tessera mirror", fmt.Sprintf("our log of %d over HTTP", size), err)
	if err != nil {
		return
	}
	b.verdict("tessera fsck", "the clone", b.fsck("file://"+clone+"/", l.keyFile))
	err = flipBit(filepath.Join(clone, "tile", "entries", "007"))
	if err == nil && b.fsck("file://"+clone+"/", l.keyFile) == nil {
		err = errors.New("it was accepted")
	}
	b.verdict("tessera fsck", "the clone with a flipped bit, which it must refuse", err)
}

func flipBit(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	content[len(content)/2] ^= 1
	return os.WriteFile(path, content, 0o644)
}

// judgeHammer has Tessera's load generator write over HTTP while its readers verify what they read.
func (b *bench) judgeHammer(s *server) {
	l, err := s.create("hammer")
	if err == nil {
		err = b.hammer(l)
	}
	b.verdict("tessera hammer", fmt.Sprintf("%d appends by POST, 6 readers", hammerLeaves), err)
	if err == nil {
		b.verdict("tessera fsck", "the hammered log", b.fsck(l.url(), l.keyFile))
	}
}

func (b *bench) hammer(l *log) error {
	output, err := b.command(b.tool(tesseraHammer), "--log_public_key", l.vkey, "--log_url", l.url(), "--show_ui=false",
		"--num_writers=16", "--max_write_ops=300", "--num_readers_random=3", "--num_readers_full=3", "--max_read_ops=300",
		fmt.Sprintf("--leaf_write_goal=%d", hammerLeaves), "--max_runtime=3m", "--logtostderr")
	if err != nil {
		return err
	}
	if !strings.Contains(output, "Reached tree size goal") {
		return errors.New(lastLines(output))
	}
	for line := range strings.Lines(output) {
		isComplaint := strings.HasPrefix(line, "W") || strings.HasPrefix(line, "E") || strings.HasPrefix(line, "F")
		// Being pushed back is no error: it waits as it was told. Nor is that it cuts off its own requests at the end.
		isExpected := strings.Contains(line, "pushback") || strings.Contains(line, "context canceled")
		if isComplaint && !isExpected {
			return errors.New(line)
		}
	}
	return nil
}

// judgeReceipts verifies the receipt of every event with Go's own implementation of notes and trees.
func (b *bench) judgeReceipts(s *server) {
	count, err := b.receipts(s)
	b.verdict("sumdb note, tlog", fmt.Sprintf("%d receipts of one run", count), err)
}

func (b *bench) receipts(s *server) (int, error) {
	l, err := s.open("default")
	if err != nil {
		return 0, err
	}
	receipts := filepath.Join(b.dir, "receipts")
	if err := l.append(b.events, "--receipts", receipts, "--skip-empty", "--digest"); err != nil {
		return 0, err
	}
	events, err := os.Open(b.events)
	if err != nil {
		return 0, err
	}
	defer events.Close()
	reader := bufio.NewReader(events)
	verified := 0
	for number := 1; ; number++ {
		line, readErr := reader.ReadBytes('\n')
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 {
			if err := verifyReceipt(l.vkey, filepath.Join(receipts, fmt.Sprintf("%d.tlog-proof", number)), line); err != nil {
				return verified, fmt.Errorf("line %d: %w", number, err)
			}
			verified++
		}
		if readErr != nil {
			break
		}
	}
	if verified == 0 {
		return 0, errors.New("there was nothing to verify")
	}
	return verified, nil
}

func verifyReceipt(vkey, path string, entry []byte) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	parsed, err := receipt.Parse(file)
	if err != nil {
		return err
	}
	if _, err := parsed.Verify(vkey, entry); err != nil {
		return err
	}
	if _, err := parsed.Verify(vkey, append(bytes.Clone(entry), '!')); err == nil {
		return errors.New("another entry has the same receipt")
	}
	return nil
}

// judgeHeads checks that each published head of the run extends the one before: by the proof that came with it, and
// by one that Go makes from the tiles.
func (b *bench) judgeHeads(s *server) {
	for _, name := range []string{"default", "hammer", fmt.Sprintf("size-%d", sizes[len(sizes)-1])} {
		heads, err := b.heads(s, name)
		b.verdict("sumdb tlog", fmt.Sprintf("%d published heads of %s, each extends the last", heads, name), err)
	}
}

func (b *bench) heads(s *server, name string) (int, error) {
	l, err := s.open(name)
	if err != nil {
		return 0, err
	}
	signed, err := listHeads(b.ctx, s.grpc, name)
	if err != nil {
		return 0, err
	}
	var heads []receipt.Head
	for _, next := range signed {
		head, err := receipt.OpenCheckpoint(l.vkey, next.GetCheckpoint())
		if err != nil {
			return 0, err
		}
		if len(heads) > 0 {
			if err := receipt.Extends(heads[len(heads)-1], head, next.GetConsistency()); err != nil {
				return 0, err
			}
		}
		heads = append(heads, head)
	}
	if len(heads) < 2 {
		return len(heads), errors.New("there is nothing to compare")
	}
	return len(heads), compare(l, heads)
}

func listHeads(ctx context.Context, address, name string) ([]*logwoodv1.SignedTreeHead, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := logwoodv1.NewLogServiceClient(conn)
	var heads []*logwoodv1.SignedTreeHead
	request := &logwoodv1.ListTreeHeadsRequest{Log: name, PageSize: 50}
	for {
		page, err := client.ListTreeHeads(ctx, request)
		if err != nil {
			return nil, err
		}
		heads = append(heads, page.GetHeads()...)
		if page.NextSize == nil || len(heads) == 0 {
			return heads, nil
		}
		request.Start = &logwoodv1.ListTreeHeadsRequest_FromSize{FromSize: page.GetNextSize()}
		// The proof of the next page's first head is asked for from the last one of this page.
		if request.KnownSize, err = claimedSize(heads[len(heads)-1]); err != nil {
			return nil, err
		}
	}
}

// claimedSize is the size that a checkpoint claims: the second line of its text.
func claimedSize(head *logwoodv1.SignedTreeHead) (uint64, error) {
	var origin string
	var size uint64
	_, err := fmt.Sscanf(string(head.GetCheckpoint()), "%s\n%d\n", &origin, &size)
	return size, err
}

// compare derives the root of each head from the tiles below the last one.
func compare(l *log, heads []receipt.Head) error {
	last := heads[len(heads)-1]
	reader := tlog.TileHashReader(tlog.Tree{N: last.Size, Hash: last.Root}, &tileReader{url: l.url(), read: map[string][]byte{}})
	for _, head := range heads[:len(heads)-1] {
		if head.Size == 0 {
			continue
		}
		proof, err := tlog.ProveTree(last.Size, head.Size, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, last.Size, last.Root, head.Size, head.Root); err != nil {
			return fmt.Errorf("sizes %d and %d: %w", head.Size, last.Size, err)
		}
	}
	return nil
}

// A tileReader reads tiles over HTTP, each once.
type tileReader struct {
	url  string
	read map[string][]byte
}

func (*tileReader) Height() int                     { return 8 }
func (*tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (t *tileReader) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	contents := make([][]byte, len(wanted))
	for i, tile := range wanted {
		// Go's paths name the height of tiles, which tlog-tiles fixes.
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		if t.read[path] == nil {
			content, err := fetch(t.url + path)
			if err != nil {
				return nil, err
			}
			t.read[path] = content
		}
		contents[i] = t.read[path]
	}
	return contents, nil
}
