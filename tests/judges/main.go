// Command judges runs programs that others wrote for their own logs against Logwood, and Logwood against theirs.
//
//	go run . -logwood ../../target/release/logwood
//
// It prints one line a judge: its name, what it judged, and the verdict. A judge that could not run is a failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

const (
	// runTimeout leaves room in CI's budget of 10 minutes (CONTRIBUTING.md).
	runTimeout = 9 * time.Minute
	// hammerLeaves are appended by Tessera's load generator over HTTP.
	hammerLeaves = 1500
)

// Sizes at which tiles and bundles begin, end, or are of three levels.
var sizes = []int{1, 255, 256, 257, 65_536, 70_000}

// tools are commands of others, at the version that go.mod pins.
const (
	tesseraFsck   = "github.com/transparency-dev/tessera/cmd/fsck"
	tesseraHammer = "github.com/transparency-dev/tessera/internal/hammer"
	tesseraMirror = "github.com/transparency-dev/tessera/cmd/experimental/mirror/posix"
	omniwitness   = "github.com/transparency-dev/witness/cmd/omniwitness"
	litewitness   = "filippo.io/torchwood/cmd/litewitness"
)

func main() {
	logwood := flag.String("logwood", "", "the command to judge")
	events := flag.String("events", "", "a file of events, one a line, to append and keep receipts of")
	flag.Parse()
	// Tessera's library tells what it does; only its errors are of interest here.
	klog.LogToStderr(false)
	klog.SetOutputBySeverity("INFO", io.Discard)
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	bench, err := newBench(ctx, *logwood, *events)
	if err != nil {
		fmt.Fprintln(os.Stderr, "judges:", err)
		os.Exit(1)
	}
	defer bench.close()
	if failed := bench.sit(); failed > 0 {
		fmt.Printf("judges: FAILED, %d verdicts are not what they should be\n", failed)
		bench.close()
		os.Exit(1)
	}
	fmt.Println("judges: ok")
}

// A bench is where the judges sit: a directory, the command, and their tools.
type bench struct {
	ctx     context.Context
	dir     string
	logwood string
	events  string
	failed  int
}

func newBench(ctx context.Context, logwood, events string) (*bench, error) {
	if logwood == "" || events == "" {
		return nil, errors.New("-logwood and -events are needed")
	}
	logwood, err := filepath.Abs(logwood)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "judges-")
	if err != nil {
		return nil, err
	}
	return &bench{ctx: ctx, dir: dir, logwood: logwood, events: events}, nil
}

func (b *bench) close() {
	os.RemoveAll(b.dir)
}

// verdict prints the line of one judge.
func (b *bench) verdict(judge, subject string, err error) {
	if err == nil {
		fmt.Printf("judge %-16s %-58s ok\n", judge, subject)
		return
	}
	b.failed++
	fmt.Printf("judge %-16s %-58s FAILED: %s\n", judge, subject, strings.TrimSpace(err.Error()))
}

// sit runs all judges, and returns how many verdicts are bad.
func (b *bench) sit() int {
	for _, tool := range []string{tesseraFsck, tesseraHammer, tesseraMirror, omniwitness, litewitness} {
		if _, err := b.command("go", "build", "-o", b.tool(tool), tool); err != nil {
			b.verdict(filepath.Base(tool), "was not built, so it did not run", err)
		}
	}
	server, err := b.serve("data")
	if err != nil {
		b.verdict("all", "the server did not start, so they did not run", err)
		return b.failed
	}
	defer server.stop()
	for _, size := range sizes {
		b.verdict("tessera fsck", fmt.Sprintf("our log of %d over HTTP", size), b.judgeSize(server, size))
	}
	b.judgeClone(server)
	b.judgeHammer(server)
	b.judgeReceipts(server)
	b.judgeHeads(server)
	b.judgeTessera()
	b.judgeWitnesses()
	b.judgeOurWitness()
	return b.failed
}

// tool is where the command of a package is built.
func (b *bench) tool(pkg string) string {
	return filepath.Join(b.dir, "bin", strings.ReplaceAll(pkg, "/", "-"))
}

// command runs a program to its end, and returns what it wrote to either output.
func (b *bench) command(name string, args ...string) (string, error) {
	command := exec.CommandContext(b.ctx, name, args...)
	output, err := command.CombinedOutput()
	if err != nil {
		return string(output), fmt.Errorf("%s: %w: %s", filepath.Base(name), err, lastLines(string(output)))
	}
	return string(output), nil
}

// lastLines are enough of a program's output to see why it failed.
func lastLines(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}
