package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// DefaultSocket is where an agent listens.
const DefaultSocket = "/run/pie/agent.sock"

// everyID stands for every prepatch in a request; no prepatch has it for an id.
const everyID = "*"

// Client talks to a running agent.
type Client struct{ http http.Client }

// ErrNoAgent says that no agent answers at the socket, or not this user.
var ErrNoAgent = errors.New("no agent is running here")

// ErrSilent says that an agent is there and does not answer: it is stopped, or so busy.
var ErrSilent = errors.New("the agent does not answer")

// Dial returns a client. No agent need be there.
func Dial(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 2 * requestTime}}
}

// Status asks the agent for its state. ErrNoAgent, ErrSilent.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	s := &Status{}
	return s, c.call(ctx, http.MethodGet, "/v1/status", s)
}

// Suspend has the agent leave a prepatch alone; every one, with an empty id.
func (c *Client) Suspend(ctx context.Context, id string) error {
	if id == "" {
		id = everyID
	}
	return c.call(ctx, http.MethodPost, "/v1/suspend?id="+url.QueryEscape(id), nil)
}

// Reload has the agent read its policy.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/reload", nil)
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 16 << 20

func (c *Client) call(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		return fmt.Errorf("%w (%w)", ErrSilent, err)
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrNoAgent, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(body, &f) != nil || f.Error == "" {
			f.Error = resp.Status
		}
		return &CallError{resp.StatusCode, f.Error}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	return nil
}

// CallError is what the agent refuses.
type CallError struct {
	Code int // of HTTP
	Msg  string
}

func (e *CallError) Error() string { return "the agent says: " + e.Msg }
