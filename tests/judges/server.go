package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// publishInterval is short, so that a run publishes many heads.
const publishInterval = 100 * time.Millisecond

// A server is a `logwood serve` with logs to judge.
type server struct {
	bench *bench
	// data is its directory.
	data    string
	grpc    string
	http    string
	process *exec.Cmd
}

// serve starts a server on the data directory of that name, and returns once it says that it serves.
func (b *bench) serve(name string, more ...string) (*server, error) {
	s := &server{bench: b, data: filepath.Join(b.dir, name)}
	args := append([]string{"serve", "--data", s.data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"}, more...)
	environment := []string{"LOGWOOD_HTTP__APPEND=true",
		fmt.Sprintf("LOGWOOD_PUBLISH_INTERVAL_MS=%d", publishInterval.Milliseconds())}
	process, err := b.launch(args, environment, func(line string) bool {
		if address, found := strings.CutPrefix(line, "serving HTTP on "); found {
			s.http = address
		}
		if address, found := strings.CutPrefix(line, "serving gRPC on "); found {
			s.grpc = address
		}
		return s.grpc != ""
	})
	s.process = process
	return s, err
}

func (s *server) stop() { terminate(s.process) }

// launch starts one of our own servers, and returns once isReady has seen the line of its output that says so.
func (b *bench) launch(args, environment []string, isReady func(line string) bool) (*exec.Cmd, error) {
	process := exec.Command(b.logwood, args...)
	process.Env = append(append(os.Environ(), "RUST_LOG=warn"), environment...)
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if isReady(lines.Text()) {
			return process, nil
		}
	}
	return nil, fmt.Errorf("it ended before it served: %w", process.Wait())
}

// terminate ends a server as an operator would.
func terminate(process *exec.Cmd) {
	process.Process.Signal(syscall.SIGTERM)
	process.Wait()
}

// A log is one of a server's logs.
type log struct {
	server *server
	name   string
	vkey   string
	// keyFile holds the vkey, for tools that want a file.
	keyFile string
}

// create makes a log.
func (s *server) create(name string) (*log, error) {
	admin := filepath.Join(s.data, "admin.sock")
	if _, err := s.bench.command(s.bench.logwood, "logs", "create", name, "--admin", admin); err != nil {
		return nil, err
	}
	return s.open(name)
}

// open finds out a log's key. That it is the server's word does no harm here: what is judged is whether all fits it.
func (s *server) open(name string) (*log, error) {
	l := &log{server: s, name: name, keyFile: s.data + "-" + name + ".vkey"}
	described, err := l.describe()
	if err != nil {
		return nil, err
	}
	if len(described.Vkeys) == 0 {
		return nil, errors.New("the log has no key")
	}
	l.vkey = described.Vkeys[0]
	return l, os.WriteFile(l.keyFile, []byte(l.vkey), 0o644)
}

// A description is what `logwood logs describe --json` tells of a log.
type description struct {
	Vkeys     []string
	Witnesses []struct {
		Name     string
		Failures int
		Problem  string
	}
}

func (l *log) describe() (described description, err error) {
	s := l.server
	out, err := s.bench.command(s.bench.logwood, "logs", "describe", "--json", "--log", l.name, "--server", s.url(), "--client-state", s.clientState())
	if err != nil {
		return described, err
	}
	// The first contact warns on standard error, before the one line of JSON.
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return described, json.Unmarshal([]byte(lines[len(lines)-1]), &described)
}

func (s *server) url() string         { return "http://" + s.grpc }
func (s *server) clientState() string { return s.data + "-client" }

// origin is what the log calls itself, and the name of its key.
func (l *log) origin() string {
	name, _, _ := strings.Cut(l.vkey, "+")
	return name
}

// url is where the log's checkpoint and tiles are.
func (l *log) url() string { return fmt.Sprintf("http://%s/logs/%s/", l.server.http, l.name) }

// append appends each line of a file.
func (l *log) append(file string, more ...string) error {
	args := []string{"append", "--log", l.name, "--server", l.server.url(), "--vkey", l.vkey, "--client-state", l.server.clientState(), file}
	_, err := l.server.bench.command(l.server.bench.logwood, append(args, more...)...)
	return err
}

// appendNumbers appends count different entries.
func (l *log) appendNumbers(count int) error {
	var lines bytes.Buffer
	for n := range count {
		fmt.Fprintf(&lines, "entry number %d\n", n)
	}
	file := filepath.Join(l.server.bench.dir, l.name+".lines")
	if err := os.WriteFile(file, lines.Bytes(), 0o644); err != nil {
		return err
	}
	return l.append(file)
}

// awaitPublished waits until the checkpoint over HTTP is of the size.
func (l *log) awaitPublished(size int) error {
	for {
		checkpoint, err := fetch(l.url() + "checkpoint")
		if err != nil {
			return err
		}
		if strings.Contains(string(checkpoint), fmt.Sprintf("\n%d\n", size)) {
			return nil
		}
		select {
		case <-l.server.bench.ctx.Done():
			return fmt.Errorf("size %d was not published in time: %q", size, checkpoint)
		case <-time.After(publishInterval):
		}
	}
}

func fetch(url string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}
