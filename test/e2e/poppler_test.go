package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// A service of ours in C++ on Debian's own stripped libpoppler.
func TestPoppler(t *testing.T) {
	runScenario(t, scenario{
		start:   func(t *testing.T) *server { return startPDFPage(t, "usr") },
		dial:    func(addr string, i int) (client, error) { return &pdfClient{addr: addr, name: i}, nil },
		threats: []threat{{prepatch: "CVE-2025-50420", attack: attackPoppler}},
	})
	pid := startPDFPage(t, "fixed").pid()
	if code := pieRefused(t, "insert", "CVE-2025-50420", "--pid", fmt.Sprint(pid)); code != pie.CodeFixed {
		t.Errorf("the fixed library: %s, want %s", code, pie.CodeFixed)
	}
}

// startPDFPage starts the service with the library below a folder.
func startPDFPage(t *testing.T, root string) *server {
	dir, port := installed(t, "pdfpage"), freePort(t)
	// The recursion overflows the usual 8 MiB stack; a larger limit would hide the hole.
	cmd := exec.Command("sh", "-c", `ulimit -S -s 8192; exec "$@"`, "sh", filepath.Join(dir, "pdfpage"), strconv.Itoa(port))
	cmd.Env = []string{"LD_LIBRARY_PATH=" + filepath.Join(dir, root, "lib/x86_64-linux-gnu") + ":" + filepath.Join(dir, "usr/lib/x86_64-linux-gnu")}
	return startServer(t, port, cmd)
}

// A pdfClient sends documents, each on a connection of its own.
type pdfClient struct {
	addr    string
	name, n int
}

func (c *pdfClient) Close() error { return nil }

// request has a page taken out whose annotations have a popup, and others inside.
func (c *pdfClient) request() error {
	c.n++
	note := fmt.Sprintf("note %d of %d", c.n, c.name)
	page, err := firstPage(c.addr, document(
		"<< /Type /Catalog /Pages 2 0 R >>",
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 10 10] /Annots [4 0 R 6 0 R] >>",
		"<< /Type /Annot /Subtype /Text /Rect [0 0 1 1] /Contents ("+note+") /P 3 0 R /Popup 5 0 R >>",
		"<< /Type /Annot /Subtype /Popup /Rect [0 0 1 1] /Parent 4 0 R /P 3 0 R >>",
		"<< /Type /Annot /Subtype /Stamp /Rect [0 0 1 1] /P 3 0 R /More << /Annots [7 0 R] >> >>",
		"<< /Type /Annot /Subtype /Text /Rect [0 0 1 1] /Contents (there) >>"))
	if err != nil {
		return err
	}
	for _, want := range []string{"%PDF-", "(" + note + ")", "/Subtype /Popup", "(there)", "%%EOF"} {
		if !bytes.Contains(page, []byte(want)) {
			return fmt.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	return nil
}

// attackPoppler sends annotations that contain themselves, at every level twice.
func attackPoppler(addr string) error {
	page, err := firstPage(addr, document(
		"<< /Type /Catalog /Pages 2 0 R >>",
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 10 10] /Annots [4 0 R 5 0 R] >>",
		"<< /X << /Annots [4 0 R 4 0 R] >> >>",
		"<< /Subtype /Text /X << /Annots [4 0 R 5 0 R] >> >>"))
	if err == nil && !bytes.HasPrefix(page, []byte("%PDF-")) {
		err = fmt.Errorf("answered %q", page)
	}
	return err
}

// document writes a PDF file of these objects, the first of which is its catalog.
func document(objects ...string) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n")
	var at []int
	for i, o := range objects {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	table := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, n := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", n)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, table)
	return b.Bytes()
}

// firstPage asks the service for the first page of a document.
func firstPage(addr string, document []byte) ([]byte, error) {
	conn, err := connect(addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline(conn)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(document))), document...)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	page := make([]byte, min(binary.BigEndian.Uint32(size[:]), 1<<20))
	_, err = io.ReadFull(conn, page)
	return page, err
}
