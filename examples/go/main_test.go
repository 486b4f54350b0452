package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logwood.invalid/examples/go/receipt"
)

// TestAppendsToALog runs the example twice against a real server: the second run finds every event logged already.
func TestAppendsToALog(t *testing.T) {
	server := startServer(t)
	const events = 25
	var input bytes.Buffer
	for n := range events {
		fmt.Fprintf(&input, "{\"eventID\":\"%d\"}\n", n)
	}

	var first, again bytes.Buffer
	dir := t.TempDir()
	runOnceServed(t, server, dir, input.Bytes(), &first)
	if err := run(server, "default", "", "", bytes.NewReader(input.Bytes()), &again); err != nil {
		t.Fatal(err)
	}
	for n := range events {
		want := fmt.Sprintf("line %d is entry %d, verified", n+1, n)
		for _, out := range []string{first.String(), again.String()} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
		file, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.tlog-proof", n+1)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := receipt.Parse(file); err != nil {
			t.Error(err)
		}
	}
}

func startServer(t *testing.T) string {
	t.Helper()
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(os.Getenv("HOME"), ".cache", "logwood", "target")
	}
	binary := filepath.Join(target, "release", "logwood")
	if _, err := os.Stat(binary); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("the server has not been built: ", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()

	command := exec.Command(binary, "serve", "--data", filepath.Join(t.TempDir(), "data"), "--grpc", address)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := command.Wait(); err != nil {
			t.Error("serve: ", err)
		}
	})
	return address
}

// runOnceServed waits for the server to listen, then runs the example.
func runOnceServed(t *testing.T, server, dir string, input []byte, out *bytes.Buffer) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", server)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not listen: ", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := run(server, "default", "", dir, bytes.NewReader(input), out); err != nil {
		t.Fatal(err)
	}
}
