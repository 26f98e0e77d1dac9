// Package debuginfod asks servers for the symbols that were split off from a
// program, by its build ID, as elfutils' debuginfod answers:
// GET /buildid/ID/debuginfo (debuginfod(8)).
//
// A server is asked only when the operator named it. It is not trusted: what it
// sends goes to a file without a name, bounded in size and time, and is passed on
// only when its own build ID is the one asked for. An answer, also that there is
// none, is kept until Close, so that a family of processes asks once.
package debuginfod

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// Bounds of what a server may do.
const (
	maxSize      = 2 << 30 // bytes of a debug file
	maxTime      = 60 * time.Second
	maxFirstByte = 10 * time.Second
	maxRedirects = 3
	maxServers   = 16
	maxBuildID   = 64 // bytes
)

// ErrUnknown says that no server has a debug file of the build ID.
var ErrUnknown = errors.New("no debuginfod server has it")

// Client asks servers in order. It may be used concurrently.
type Client struct {
	servers []*url.URL
	http    *http.Client

	mu      sync.Mutex
	answers map[string]*Answer
}

// Answer is what is known of one build ID.
type Answer struct {
	// Symbols is the debug file; nil where there is none.
	Symbols *binfile.File
	From    string // the server
	Err     error

	file *os.File
}

// New returns a client of the servers, which are http or https addresses.
func New(servers []string) (*Client, error) {
	if len(servers) == 0 || len(servers) > maxServers {
		return nil, fmt.Errorf("debuginfod takes 1 to %d servers, not %d", maxServers, len(servers))
	}
	c := &Client{answers: map[string]*Answer{}}
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("%q is no address of a debuginfod server: give http://HOST:8002 or https://HOST", s)
		}
		c.servers = append(c.servers, u)
	}
	c.http = &http.Client{
		Timeout: maxTime,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ResponseHeaderTimeout:  maxFirstByte,
			TLSHandshakeTimeout:    maxFirstByte,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch {
			case len(via) > maxRedirects:
				return fmt.Errorf("more than %d redirects", maxRedirects)
			case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
				return errors.New("a redirect from https to http")
			}
			return nil
		},
	}
	return c, nil
}

// Servers splits what DEBUGINFOD_URLS holds: addresses separated by spaces. Words
// that are no address, as ima:enforcing, are left out (debuginfod(8)).
func Servers(list string) []string {
	var out []string
	for word := range strings.FieldsSeq(list) {
		if strings.HasPrefix(word, "http://") || strings.HasPrefix(word, "https://") {
			out = append(out, word)
		}
	}
	return out
}

// Close deletes what was fetched.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.answers {
		if a.file != nil {
			a.file.Close()
		}
	}
	c.answers = map[string]*Answer{}
	c.http.CloseIdleConnections()
}

// Symbols returns the debug file of a build ID. What comes back is good until
// Close.
func (c *Client) Symbols(ctx context.Context, buildID []byte) *Answer {
	if len(buildID) == 0 || len(buildID) > maxBuildID {
		return &Answer{Err: fmt.Errorf("a build ID of %d bytes: %w", len(buildID), ErrUnknown)}
	}
	id := hex.EncodeToString(buildID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.answers[id]; a != nil {
		return a
	}
	a := &Answer{Err: ErrUnknown}
	for _, server := range c.servers {
		got, err := c.fetch(ctx, server, id)
		if err == nil {
			a = got
			break
		}
		if !errors.Is(err, ErrUnknown) {
			a.Err = fmt.Errorf("asking %s for %s: %w", server.Redacted(), id, err)
		}
	}
	if ctx.Err() == nil {
		c.answers[id] = a
	}
	return a
}

// Within returns what asks the client's servers until ctx ends.
func (c *Client) Within(ctx context.Context) *Asker { return &Asker{c, ctx} }

// Asker asks a Client's servers for one command, which may be interrupted.
type Asker struct {
	*Client
	ctx context.Context
}

// Symbols is Client.Symbols, as locate asks: no file and no error where no server has one.
func (a *Asker) Symbols(buildID []byte) (symbols *binfile.File, from string, err error) {
	got := a.Client.Symbols(a.ctx, buildID)
	if errors.Is(got.Err, ErrUnknown) {
		return nil, "", nil
	}
	return got.Symbols, got.From, got.Err
}

func (c *Client) fetch(ctx context.Context, server *url.URL, id string) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.JoinPath("buildid", id, "debuginfo").String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "pie")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, ErrUnknown
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %s", resp.Status)
	case resp.ContentLength > maxSize:
		return nil, fmt.Errorf("%d bytes are more than %d", resp.ContentLength, int64(maxSize))
	}
	a := &Answer{From: server.Redacted()}
	if a.file, err = nameless(); err != nil {
		return nil, err
	}
	if err = a.read(resp.Body, id); err != nil {
		a.file.Close()
		return nil, err
	}
	return a, nil
}

// read stores what a server sends and takes it when it is what was asked for.
func (a *Answer) read(body io.Reader, id string) error {
	n, err := io.Copy(a.file, io.LimitReader(body, maxSize+1))
	if err != nil {
		return err
	}
	if n > maxSize {
		return fmt.Errorf("it sends more than %d bytes", int64(maxSize))
	}
	f, err := binfile.OpenSymbols(a.file, n)
	if err != nil {
		return fmt.Errorf("what it sends: %w", err)
	}
	if got := f.BuildIDString(); got != id {
		return fmt.Errorf("what it sends has the build ID %q", got)
	}
	a.Symbols = f
	return nil
}

// nameless makes a file that only this process has.
func nameless() (*os.File, error) {
	f, err := os.CreateTemp("", "pie-debuginfod-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
