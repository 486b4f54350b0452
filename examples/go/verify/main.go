// Command verify checks, offline and with nothing of Logwood's, the receipts that `logwood append --receipts DIR FILE`
// wrote: one for each line of FILE, named after its number.
//
//	go run ./verify -vkey "$LOGWOOD_VKEY" -receipts DIR FILE
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"logwood.invalid/examples/go/receipt"
)

func main() {
	vkey := flag.String("vkey", "", "the log's public key")
	dir := flag.String("receipts", "", "directory of the receipts")
	flag.Parse()
	if flag.NArg() != 1 || *vkey == "" || *dir == "" {
		flag.Usage()
		os.Exit(2)
	}
	count, err := verify(*vkey, *dir, flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
	fmt.Printf("%d receipts verified\n", count)
}

// verify returns how many lines the file has, if each has a receipt that verifies and no two have one index.
func verify(vkey, dir, file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	indices := make(map[int64]int, len(lines))
	for i, line := range lines {
		number := i + 1
		raw, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.tlog-proof", number)))
		if err != nil {
			return 0, err
		}
		proof, err := receipt.Parse(raw)
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", number, err)
		}
		if _, err := proof.Verify(vkey, line); err != nil {
			return 0, fmt.Errorf("line %d: %w", number, err)
		}
		if other, taken := indices[proof.Index]; taken {
			return 0, fmt.Errorf("lines %d and %d have one index", other, number)
		}
		indices[proof.Index] = number
	}
	return len(lines), nil
}
