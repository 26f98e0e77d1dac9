package canary

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

// Health is what an operator asks of the service from outside.
type Health struct {
	Command string        // for sh -c: exit status 0 is well
	URL     string        // GET: a status below 400 is well
	Every   time.Duration // default 5 s
	Timeout time.Duration // of one check; default 5 s
}

const defaultHealth = 5 * time.Second

func (h Health) every() time.Duration {
	if h.Every <= 0 {
		return defaultHealth
	}
	return h.Every
}

// check asks once, and once more if the answer is no: one lost packet takes
// nobody's guard away.
func (h Health) check(ctx context.Context) error {
	err := h.once(ctx)
	if err != nil && ctx.Err() == nil {
		sleep(ctx, 200*time.Millisecond)
		err = h.once(ctx)
	}
	return err
}

func (h Health) once(ctx context.Context) error {
	limit := h.Timeout
	if limit <= 0 {
		limit = defaultHealth
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if h.Command != "" {
		if err := runCommand(ctx, h.Command); err != nil {
			return err
		}
	}
	if h.URL != "" {
		return get(ctx, h.URL)
	}
	return nil
}

func runCommand(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.New("it does not end")
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return fmt.Errorf("%s: %w: %s", command, err, line)
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
