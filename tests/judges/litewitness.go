package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/tlog"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"logwood.invalid/examples/go/receipt"
)

// newLitewitness makes a witness for a log. It signs with an ssh-agent, which is this process.
func newLitewitness(b *bench, l *log) (*foreign, error) {
	const name = "litewitness.test/witness"
	w, err := newForeign(b, "litewitness", litewitness)
	if err != nil {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	signer, err := torchwood.NewCosignatureSigner(name, private)
	if err != nil {
		return nil, err
	}
	w.vkeys = []string{signer.Verifier().String()}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	if err := serveAgent(w.file("agent"), private); err != nil {
		return nil, err
	}
	w.args = []string{"-name", name, "-listen", w.address, "-db", w.file("litewitness.db"),
		"-ssh-agent", w.file("agent"), "-key", ssh.FingerprintSHA256(key)}
	w.view = w.litewitnessView
	// Its database is where it is told of logs; it makes the tables when it starts.
	if err := w.start(); err != nil {
		return w, err
	}
	w.kill()
	return w, w.addLog(l)
}

// serveAgent answers the ssh-agent protocol on a Unix socket, for as long as this process runs.
func serveAgent(socket string, key ed25519.PrivateKey) error {
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(keyring, conn)
		}
	}()
	return nil
}

// addLog does what its `witnessctl add-log` and `add-key` do. That command is not built here: it needs a library of
// another log, for the one subcommand that adds logs of that kind.
func (w *foreign) addLog(l *log) error {
	database, err := sqlite.OpenConn(w.file("litewitness.db"))
	if err != nil {
		return err
	}
	defer database.Close()
	empty := sha256.Sum256(nil)
	err = sqlitex.Execute(database, "INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)",
		&sqlitex.ExecOptions{Args: []any{l.origin(), base64.StdEncoding.EncodeToString(empty[:])}})
	if err != nil {
		return err
	}
	return sqlitex.Execute(database, "INSERT INTO key (origin, key) VALUES (?, ?)",
		&sqlitex.ExecOptions{Args: []any{l.origin(), l.vkey}})
}

func (w *foreign) litewitnessView(l *log) (receipt.Head, error) {
	var head receipt.Head
	database, err := sqlite.OpenConn(w.file("litewitness.db"), sqlite.OpenReadOnly)
	if err != nil {
		return head, err
	}
	defer database.Close()
	found := false
	err = sqlitex.Execute(database, "SELECT tree_size, tree_hash FROM log WHERE origin = ?", &sqlitex.ExecOptions{
		Args: []any{l.origin()},
		ResultFunc: func(row *sqlite.Stmt) (err error) {
			found = true
			head.Size = row.ColumnInt64(0)
			head.Root, err = tlog.ParseHash(row.ColumnText(1))
			return err
		},
	})
	if err == nil && !found {
		err = fmt.Errorf("it has no log %s", l.origin())
	}
	return head, err
}
