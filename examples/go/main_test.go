package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"logwood.invalid/examples/go/receipt"
)

// TestAKilledServerLosesAndDoublesNothing runs the example twice against a real server, which is killed in between:
// the second run finds every event where the first one's receipts say that it is.
func TestAKilledServerLosesAndDoublesNothing(t *testing.T) {
	const events = 25
	var input bytes.Buffer
	for n := range events {
		fmt.Fprintf(&input, "{\"eventID\":\"%d\"}\n", n)
	}
	data, receipts := filepath.Join(t.TempDir(), "data"), t.TempDir()

	var first, again bytes.Buffer
	server := startServer(t, data)
	if err := run(server.address, "default", "", receipts, bytes.NewReader(input.Bytes()), &first); err != nil {
		t.Fatal(err)
	}
	server.kill()
	server = startServer(t, data)
	if err := run(server.address, "default", "", "", bytes.NewReader(input.Bytes()), &again); err != nil {
		t.Fatal(err)
	}
	server.stop()

	for n := range events {
		want := fmt.Sprintf("line %d is entry %d, verified", n+1, n)
		for _, out := range []string{first.String(), again.String()} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
		file, err := os.ReadFile(filepath.Join(receipts, fmt.Sprintf("%d.tlog-proof", n+1)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := receipt.Parse(file); err != nil {
			t.Error(err)
		}
	}
}

type runningServer struct {
	t       *testing.T
	address string
	command *exec.Cmd
}

// startServer returns once the server says that it serves.
func startServer(t *testing.T, data string) *runningServer {
	t.Helper()
	binary := binary(t)
	command := exec.Command(binary, "serve", "--data", data, "--grpc", "127.0.0.1:0", "--http", "off")
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// Harmless after kill and stop, which have waited for the process.
	t.Cleanup(func() { command.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, found := strings.CutPrefix(lines.Text(), "serving gRPC on "); found {
			return &runningServer{t: t, address: address, command: command}
		}
	}
	t.Fatal("the server ended before it served: ", command.Wait())
	return nil
}

func (s *runningServer) kill() {
	s.t.Helper()
	if err := s.command.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.command.Wait(); err == nil {
		s.t.Fatal("a killed server ended well")
	}
}

func (s *runningServer) stop() {
	s.t.Helper()
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := s.command.Wait(); err != nil {
		s.t.Error("after SIGTERM: ", err)
	}
}

// binary is where `make` has built the command.
func binary(t *testing.T) string {
	t.Helper()
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(os.Getenv("HOME"), ".cache", "logwood", "target")
	}
	path := filepath.Join(target, "release", "logwood")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("the server has not been built: ", err)
	}
	return path
}
