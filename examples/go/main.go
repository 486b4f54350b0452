// Command example appends the lines of standard input to a log, one event a line, and believes nothing that it
// has not verified: each receipt, and that each head extends the one before it.
//
//	logwood serve &
//	cat events.ndjson | go run . -receipts ./receipts
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"logwood.invalid/examples/go/logwoodv1"
	"logwood.invalid/examples/go/receipt"
)

const (
	// entryBytesMax is the limit of C2SP tlog-tiles for an entry.
	entryBytesMax = 65535
	attemptsMax   = 8
	callTimeout   = 10 * time.Second
)

func main() {
	server := flag.String("server", "127.0.0.1:7070", "host and port of the server")
	log := flag.String("log", "default", "name of the log")
	vkey := flag.String("vkey", "", "the log's public key; without it, the server's word is taken")
	dir := flag.String("receipts", "", "directory to write receipts to")
	flag.Parse()

	if err := run(*server, *log, *vkey, *dir, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

func run(server, log, vkey, dir string, events io.Reader, out io.Writer) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	appender := appender{client: logwoodv1.NewLogServiceClient(conn), log: log, vkey: vkey}
	if vkey == "" {
		if err := appender.pin(); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "warning: trusting the key that the server names:", appender.vkey)
	}

	lines := bufio.NewScanner(events)
	lines.Buffer(nil, entryBytesMax+2)
	number := 0
	for lines.Scan() {
		number++
		proof, err := appender.append(lines.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if dir != "" {
			name := filepath.Join(dir, fmt.Sprintf("%d.tlog-proof", number))
			if err := os.WriteFile(name, proof.Format(), 0o644); err != nil {
				return err
			}
		}
		fmt.Fprintf(out, "line %d is entry %d, verified in a tree of %d\n", number, proof.Index, appender.head.Size)
	}
	return lines.Err()
}

// An appender remembers the last head that it has verified, so that a server that takes something back is noticed.
type appender struct {
	client logwoodv1.LogServiceClient
	log    string
	vkey   string
	head   receipt.Head
}

// pin takes the first key that the server names for the log, as ssh does on first contact.
func (a *appender) pin() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	answer, err := a.client.DescribeLog(ctx, &logwoodv1.DescribeLogRequest{Log: a.log})
	if err != nil {
		return err
	}
	if len(answer.GetInfo().GetVkeys()) == 0 {
		return errors.New("the server names no key for the log")
	}
	a.vkey = answer.Info.Vkeys[0]
	return nil
}

// append logs one event. Its identity is its hash, so that a retry (of the call, or of the whole program) finds the
// entry that is there already. Real events have better ones: CloudTrail's eventID, for instance.
func (a *appender) append(event []byte) (receipt.Receipt, error) {
	hash := sha256.Sum256(event)
	answer, err := a.retry(&logwoodv1.AppendRequest{
		Log:       a.log,
		Entry:     event,
		Identity:  &logwoodv1.AppendRequest_Key{Key: []byte(base64.StdEncoding.EncodeToString(hash[:]))},
		KnownSize: uint64(a.head.Size),
	})
	if err != nil {
		return receipt.Receipt{}, err
	}
	proof, err := receipt.Hashes(answer.GetInclusion())
	if err != nil {
		return receipt.Receipt{}, err
	}
	made := receipt.Receipt{
		Index:      int64(answer.GetIndex()),
		Proof:      proof,
		Checkpoint: answer.GetHead().GetCheckpoint(),
	}
	head, err := made.Verify(a.vkey, event)
	if err != nil {
		return receipt.Receipt{}, err
	}
	if err := receipt.Extends(a.head, head, answer.GetHead().GetConsistency()); err != nil {
		return receipt.Receipt{}, err
	}
	a.head = head
	return made, nil
}

// retry repeats what is safe to repeat, with back-off: the identity makes it so.
func (a *appender) retry(request *logwoodv1.AppendRequest) (*logwoodv1.AppendResponse, error) {
	pause := 50 * time.Millisecond
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		answer, err := a.client.Append(ctx, request)
		cancel()
		code := status.Code(err)
		if attempt == attemptsMax || (code != codes.Unavailable && code != codes.ResourceExhausted) {
			return answer, err
		}
		time.Sleep(pause)
		pause *= 2
	}
}
