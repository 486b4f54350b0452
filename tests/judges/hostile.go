package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"logwood.invalid/examples/go/receipt"
)

// Names of requests, for those whom a witness answers in its own way.
const (
	unknownLog   = "of an unknown log"
	otherKey     = "signed by another key"
	badSignature = "with a spoilt signature"
)

// A hostile request is one that no witness may cosign.
type hostileRequest struct {
	name   string
	body   []byte
	status int
}

// A forger has a log's key, and uses it for what the log would never sign.
type forger struct {
	origin string
	signer note.Signer
	// last is what the witness cosigned last: the head, and the checkpoint.
	last       receipt.Head
	checkpoint []byte
}

// newForger takes the key from where our server keeps it.
func newForger(l *log, checkpoint []byte) (*forger, error) {
	key, err := os.ReadFile(filepath.Join(l.server.data, "keys", l.name))
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(key)))
	if err != nil {
		return nil, err
	}
	last, err := receipt.OpenCheckpoint(l.vkey, checkpoint)
	return &forger{origin: l.origin(), signer: signer, last: last, checkpoint: checkpoint}, err
}

// fork is a checkpoint of a tree that the log never had.
func (f *forger) fork(size int64) []byte {
	return f.sign(f.origin, size, f.signer)
}

func (f *forger) sign(origin string, size int64, signer note.Signer) []byte {
	root := tlog.Hash(sha256.Sum256([]byte("another history")))
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)}, signer)
	if err != nil {
		panic(err) // the text is well-formed
	}
	return signed
}

// requests are what a witness must refuse, each with the status that C2SP tlog-witness has for it.
func (f *forger) requests() ([]hostileRequest, error) {
	key, _, err := note.GenerateKey(nil, f.origin)
	if err != nil {
		return nil, err
	}
	other, err := note.NewSigner(key)
	if err != nil {
		return nil, err
	}
	stranger := f.origin + ".test"
	if key, _, err = note.GenerateKey(nil, stranger); err != nil {
		return nil, err
	}
	unknown, err := note.NewSigner(key)
	if err != nil {
		return nil, err
	}
	size := f.last.Size
	spoilt := bytes.Replace(f.fork(size+1), []byte(fmt.Sprintf("\n%d\n", size+1)), []byte(fmt.Sprintf("\n%d\n", size+2)), 1)
	hash := tlog.Hash(sha256.Sum256([]byte("no such node")))
	return []hostileRequest{
		{"of the same size with another root", request(size, f.fork(size)), 422},
		{"that does not extend the last one", request(size, f.fork(size+1), hash), 422},
		{"without a proof", request(size, f.fork(size+1)), 422},
		{"from the beginning again", request(0, f.fork(size+1)), 409},
		{"rolled back", request(size-1, f.fork(size-1)), 409},
		{"with an old size above its own", request(size, f.fork(size-1)), 400},
		{unknownLog, request(size, f.sign(stranger, size+1, unknown)), 404},
		{otherKey, request(size, f.sign(f.origin, size+1, other)), 403},
		{badSignature, request(size, spoilt), 403},
		{"malformed", []byte("old -1\n\n"), 400},
	}, nil
}

// request is the body of an add-checkpoint request.
func request(oldSize int64, checkpoint []byte, proof ...tlog.Hash) []byte {
	body := fmt.Appendf(nil, "old %d\n", oldSize)
	for _, hash := range proof {
		body = fmt.Appendf(body, "%s\n", hash)
	}
	return append(append(body, '\n'), checkpoint...)
}

// judgeRefusals has a witness answer everything that it must not cosign, and then what it must.
//
// differs has the statuses that a witness is known to answer instead.
func (f *forger) judgeRefusals(url string, differs map[string]int) error {
	requests, err := f.requests()
	if err != nil {
		return err
	}
	for _, hostile := range requests {
		status, kind, answer, err := post(url, hostile.body)
		if err != nil {
			return err
		}
		wanted := hostile.status
		if other, found := differs[hostile.name]; found {
			wanted = other
		}
		if status != wanted {
			return fmt.Errorf("a checkpoint %s was answered with status %d, not %d", hostile.name, status, wanted)
		}
		if status == http.StatusConflict && (kind != "text/x.tlog.size" || answer != fmt.Sprintf("%d\n", f.last.Size)) {
			return fmt.Errorf("a checkpoint %s was answered with %q of type %q", hostile.name, answer, kind)
		}
	}
	status, _, _, err := post(url, request(f.last.Size, f.checkpoint))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the log's own checkpoint was answered with status %d after that", status)
	}
	return err
}

// post sends an add-checkpoint request: status, media type and body of the answer.
func post(url string, body []byte) (status int, kind, answer string, err error) {
	response, err := http.Post(url+"/add-checkpoint", "text/plain", bytes.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header.Get("Content-Type"), string(content), err
}

// judgeHostile has each witness of a log refuse the log's own key, when it signs what the log never was.
func (w *watchedLog) judgeHostile(witness *foreign) error {
	checkpoint, err := w.awaitWitnessed()
	if err != nil {
		return err
	}
	forger, err := newForger(w.log, checkpoint)
	if err != nil {
		return err
	}
	if err := forger.judgeRefusals(witness.url(), witness.differs); err != nil {
		return err
	}
	view, err := witness.view(w.log)
	if err == nil && view != forger.last {
		err = errors.New("its record has changed")
	}
	return err
}
