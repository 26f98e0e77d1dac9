package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestIperf3(t *testing.T) { runScenario(t, iperf3Scenario) }

// An iperf3 server runs one measurement at a time, so there is one server for
// each of the load's clients; all are one group for pie.
var iperf3Scenario = scenario{
	start:   startIperf3,
	servers: clients,
	dial:    dialIperf3,
	threats: []threat{
		{prepatch: "CVE-2025-54350", attack: attackIperf3(func(p map[string]any) {
			p["authtoken"] = "####not-base64####"
		})},
		{prepatch: "CVE-2024-53580", attack: attackIperf3(func(p map[string]any) {
			p["congestion"] = 5 // a number where a string is expected: strdup(NULL)
		})},
	},
}

// attackIperf3 begins a measurement with spoilt parameters.
func attackIperf3(spoil func(parameters map[string]any)) func(addr string) error {
	return func(addr string) error {
		c, err := newIperf3Client(addr)
		if err != nil {
			return err
		}
		control, err := c.open()
		if err != nil {
			return err
		}
		defer control.Close()
		p := c.parameters()
		spoil(p)
		if err := writeJSON(control, p); err != nil {
			return err
		}
		// The server answers with an error state or goes on; either way it ends
		// this measurement when the connection closes.
		_, err = readState(control)
		return err
	}
}

// iperf3Key is made once: the server checks that the login was sealed with it.
var iperf3Key, iperf3KeyError = rsa.GenerateKey(rand.Reader, 2048)

func startIperf3(t *testing.T) *server {
	if iperf3KeyError != nil {
		t.Fatal(iperf3KeyError)
	}
	dir, port := t.TempDir(), freePort(t)
	key := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(iperf3Key)})
	users := fmt.Sprintf("bob,%x\n", sha256.Sum256([]byte("{bob}pw")))
	for name, content := range map[string][]byte{"key.pem": key, "users": []byte(users)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := installed(t, "iperf3")
	cmd := exec.Command(filepath.Join(root, "usr/bin/iperf3"), "-s", "-B", "127.0.0.1", "-p", strconv.Itoa(port),
		"--rsa-private-key-path", filepath.Join(dir, "key.pem"), "--authorized-users-path", filepath.Join(dir, "users"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(root, "usr/lib/x86_64-linux-gnu"))
	return startServer(t, port, cmd)
}

// States of the iperf3 control connection, one byte each.
const (
	iperfTestStart       = 1
	iperfTestRunning     = 2
	iperfTestEnd         = 4
	iperfParamExchange   = 9
	iperfCreateStreams   = 10
	iperfExchangeResults = 13
	iperfDisplayResults  = 14
	iperfDone            = 16
	iperfAccessDenied    = 0xff
)

// An iperf3Client logs in and measures in the reverse direction: the server sends
// one random block again and again. The blocks must be equal, and the server's
// own count must cover what came.
type iperf3Client struct {
	addr   string
	cookie []byte
	turn   time.Time // when the server asked for this request's parameters
}

func (c *iperf3Client) began() time.Time { return c.turn }

// iperf3Block is the size of the block the server repeats, in bytes.
const iperf3Block = 16 << 10

func dialIperf3(addr string, i int) (client, error) { return newIperf3Client(addr) }

func newIperf3Client(addr string) (*iperf3Client, error) {
	c := &iperf3Client{addr: addr, cookie: make([]byte, 37)}
	copy(c.cookie, rand.Text()+rand.Text())
	c.cookie[36] = 0
	return c, nil
}

func (c *iperf3Client) Close() error { return nil }

// open connects and waits for the server to be free. While it serves another
// client it answers "access denied" at once; between two clients it closes its
// listening socket and opens it again, which resets who waits. Both are its
// normal replies, and the request begins only when it asks for parameters. A
// server that stays silent is not excused.
func (c *iperf3Client) open() (net.Conn, error) {
	for end := time.Now().Add(replyDeadline); ; time.Sleep(time.Millisecond) {
		control, err := connect(c.addr)
		if err != nil {
			// A reset that arrives behind the server's FIN is EPIPE.
			between := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
			if between && time.Now().Before(end) {
				continue
			}
			return nil, err
		}
		deadline(control)
		if _, err = control.Write(c.cookie); err == nil {
			var state byte
			if state, err = readState(control); err == nil && state == iperfParamExchange {
				c.turn = time.Now()
				return control, nil
			} else if err == nil && state != iperfAccessDenied {
				control.Close()
				return nil, fmt.Errorf("the server answered state %d", state)
			}
		}
		control.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			return nil, fmt.Errorf("waiting for a free server: %w", err)
		}
	}
}

func (c *iperf3Client) parameters() map[string]any {
	return map[string]any{
		"tcp": true, "omit": 0, "time": 0, "num": 2 * iperf3Block, "blockcount": 0, "parallel": 1,
		"reverse": true, "len": iperf3Block, "pacing_timer": 1000, "client_version": "3.12",
	}
}

func (c *iperf3Client) request() error {
	control, err := c.open()
	if err != nil {
		return err
	}
	defer control.Close()
	p := c.parameters()
	login := fmt.Sprintf("user: bob\npwd:  pw\nts:   %d", time.Now().Unix())
	//lint:ignore SA1019 the padding is what iperf3 3.12 speaks
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &iperf3Key.PublicKey, []byte(login))
	if err != nil {
		return err
	}
	p["authtoken"] = base64.StdEncoding.EncodeToString(sealed)
	if err := writeJSON(control, p); err != nil {
		return err
	}
	if err := expectStates(control, iperfCreateStreams); err != nil {
		return err
	}
	stream, err := connect(c.addr)
	if err != nil {
		return err
	}
	defer stream.Close()
	deadline(stream)
	if _, err := stream.Write(c.cookie); err != nil {
		return err
	}
	if err := expectStates(control, iperfTestStart, iperfTestRunning); err != nil {
		return err
	}
	first, second := make([]byte, iperf3Block), make([]byte, iperf3Block)
	for _, block := range [][]byte{first, second} {
		if _, err := io.ReadFull(stream, block); err != nil {
			return err
		}
	}
	if !bytes.Equal(first, second) {
		return errors.New("the server sent two blocks that differ")
	}
	return c.compareResults(control)
}

func (c *iperf3Client) compareResults(control net.Conn) error {
	if _, err := control.Write([]byte{iperfTestEnd}); err != nil {
		return err
	}
	if err := expectStates(control, iperfExchangeResults); err != nil {
		return err
	}
	type result struct {
		ID    int `json:"id"`
		Bytes int `json:"bytes"`
		// The server refuses results that lack any of these.
		Retransmits float64 `json:"retransmits"`
		Jitter      float64 `json:"jitter"`
		Errors      int     `json:"errors"`
		Packets     int     `json:"packets"`
		Start       float64 `json:"start_time"`
		End         float64 `json:"end_time"`
	}
	ours := map[string]any{
		"cpu_util_total": 1, "cpu_util_user": 1, "cpu_util_system": 0, "sender_has_retransmits": 0,
		"streams": []result{{ID: 1, Bytes: 2 * iperf3Block}},
	}
	if err := writeJSON(control, ours); err != nil {
		return err
	}
	var theirs struct {
		Streams []result
	}
	if err := readJSON(control, &theirs); err != nil {
		return err
	}
	if err := expectStates(control, iperfDisplayResults); err != nil {
		return err
	}
	if len(theirs.Streams) != 1 || theirs.Streams[0].Bytes < 2*iperf3Block {
		return fmt.Errorf("the server reports %+v, %d bytes came", theirs.Streams, 2*iperf3Block)
	}
	_, err := control.Write([]byte{iperfDone})
	return err
}

func readState(r io.Reader) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

func expectStates(r io.Reader, want ...byte) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("waiting for states %v, got %v: %w", want, got[:n], err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the server went to states %v, want %v", got, want)
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readJSON(r io.Reader, v any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<20 {
		return fmt.Errorf("the server announces %d bytes of results", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
