package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// Status is what the agent tells of itself.
type Status struct {
	Version     string    `json:"version"`
	Pid         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Policy      string    `json:"policy"`
	PolicyError string    `json:"policy_error,omitempty"`
	Holding     Holding   `json:"holding"`
	Execs       string    `json:"execs"`             // where execs are known from
	Missing     []string  `json:"missing,omitempty"` // capabilities
	Blind       bool      `json:"blind,omitempty"`   // without which programs of other users are not guarded
	Rules       []Rule    `json:"rules"`
	Processes   []Process `json:"processes"`
}

// Holding tells whether new processes are held until they are guarded.
type Holding struct {
	On          bool   `json:"on"`
	Executables int    `json:"executables"`
	Why         string `json:"why,omitempty"` // it is off
	// Longest is the longest time that a process was held since the agent began,
	// guarded in that time or not.
	Longest time.Duration `json:"longest_ns,omitempty"`
	Starts  Starts        `json:"starts"` // since the agent began
}

// Rule is one rule of the policy in force.
type Rule struct {
	ID        string `json:"id"`
	Line      int    `json:"line"`
	Text      string `json:"text"`
	Suspended bool   `json:"suspended,omitempty"` // an operator has taken it over
	Over      string `json:"over,omitempty"`      // why it is no longer kept up
}

// Healthy tells what is wrong; nothing, with an empty list.
func (s *Status) Healthy() (problems []string) {
	if s.PolicyError != "" {
		problems = append(problems, "policy: "+s.PolicyError)
	}
	if s.Blind {
		problems = append(problems, "programs of other users are not guarded, for want of "+strings.Join(s.Missing, ", "))
	}
	for _, p := range s.Processes {
		if p.State == Refused {
			problems = append(problems, fmt.Sprintf("%s in pid %d: %s", p.ID, p.Pid, p.Error))
		}
	}
	return problems
}

// status is for Run's goroutine.
func (a *Agent) status() Status {
	s := Status{Version: a.c.Version, Pid: os.Getpid(), Started: a.started, Policy: a.c.Policy, Execs: "process connector", Rules: []Rule{}, Processes: a.processes()}
	s.Missing, _, s.Blind = missingRights()
	if a.policyErr != nil {
		s.PolicyError = a.policyErr.Error()
	}
	switch {
	case a.gate != nil:
		s.Holding = Holding{On: true, Executables: a.gate.Marked}
	case a.gateErr != nil:
		s.Holding.Why = a.gateErr.Error()
	case a.c.PollOnly:
		s.Holding.Why = "the agent was started with --poll"
	default:
		s.Holding.Why = "no rule names an executable that is there"
	}
	s.Holding.Longest, s.Holding.Starts = a.longestHold, a.starts
	if a.watch == nil {
		s.Execs = fmt.Sprintf("/proc, every %v", pollInterval)
	}
	for _, r := range a.rules {
		s.Rules = append(s.Rules, Rule{ID: r.ID, Line: r.Line, Text: r.String(), Suspended: a.suspended[r.ID], Over: r.over})
	}
	return s
}

func (a *Agent) processes() []Process {
	out := []Process{}
	for _, p := range a.kept {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(x, y Process) int {
		if x.Pid != y.Pid {
			return x.Pid - y.Pid
		}
		return slices.Compare([]byte(x.ID), []byte(y.ID))
	})
	return out
}

// requestTime bounds one request.
const requestTime = 10 * time.Second

// ErrRunning says that an agent answers at the socket already.
var ErrRunning = errors.New("another agent is running")

// Listen makes the socket. Root and members of group, which may be empty, may
// talk to it: that is checked for each connection by the kernel's word for who it
// is (SO_PEERCRED, SO_PEERGROUPS), the permissions of the file are only the first
// fence.
func Listen(path, group string) (net.Listener, error) {
	gid := -1
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("the group of the socket: %w", err)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, fmt.Errorf("the group of the socket: %w", err)
		}
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrRunning)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("the agent's socket: there is a file at %s that is no socket", path)
		}
		_ = os.Remove(path) // left by an agent that was killed
	}
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if gid >= 0 {
		if err := errors.Join(os.Chown(path, 0, gid), os.Chmod(path, 0o660)); err != nil {
			l.Close()
			return nil, err
		}
	}
	return &peerListener{l, gid}, nil
}

// peerListener hands out connections of those who may talk.
type peerListener struct {
	net.Listener
	gid int // −1: root alone
}

func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.permitted(c) {
			return c, nil
		}
		c.Close()
	}
}

func (l *peerListener) permitted(c net.Conn) bool {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		ok = cred.Uid == 0 || l.gid >= 0 && (int(cred.Gid) == l.gid || slices.Contains(peerGroups(fd), uint32(l.gid)))
	})
	return err == nil && ok
}

// peerGroups are the supplementary groups that who connected had then (SO_PEERGROUPS,
// socket(7)): none when they cannot be told.
func peerGroups(fd uintptr) []uint32 {
	const most = 1 << 16 // NGROUPS_MAX
	size := uint32(64)
	for size <= most {
		groups := make([]uint32, size)
		bytes := 4 * size
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&bytes)), 0)
		switch {
		case errno == unix.ERANGE && bytes/4 > size:
			size = bytes / 4
		case errno != 0:
			return nil
		default:
			return groups[:min(bytes/4, size)]
		}
	}
	return nil
}

// Serve answers on l until ctx ends: HTTP, because every tool speaks it.
//
//	GET  /v1/health   200, or 503 and what is wrong
//	GET  /v1/status   Status
//	POST /v1/suspend?id=ID   leave a prepatch (*: every one) alone until the policy is read again
//	POST /v1/reload   read the policy now
//	GET  /metrics     for Prometheus
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	return serve(ctx, l, a.handler())
}

// ServeMetrics answers GET /metrics alone, for a scraper on the network.
func (a *Agent) ServeMetrics(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics())
	return serve(ctx, l, mux)
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: http.MaxBytesHandler(h, 64<<10), ReadTimeout: requestTime, WriteTimeout: 2 * requestTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (a *Agent) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{a}, a.Stats.pauses, a.Stats.windows, a.Stats.holds)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics())
	mux.HandleFunc("GET /v1/status", a.answer(func(r *http.Request) (int, any) { return http.StatusOK, a.status() }))
	mux.HandleFunc("GET /v1/health", a.answer(func(r *http.Request) (int, any) {
		s := a.status()
		problems := s.Healthy()
		if len(problems) > 0 {
			return http.StatusServiceUnavailable, map[string]any{"healthy": false, "problems": problems}
		}
		return http.StatusOK, map[string]any{"healthy": true}
	}))
	mux.HandleFunc("POST /v1/suspend", a.answer(func(r *http.Request) (int, any) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		id := query.Get("id")
		switch {
		case err != nil || id == "" || len(query) != 1 || len(query["id"]) != 1:
			return http.StatusBadRequest, failure{"say which prepatch, one a request: ?id=ID, or ?id=* for every one"}
		case id == everyID:
			id = pie.AnyID
		}
		if err := a.suspend(id); err != nil {
			return http.StatusNotFound, failure{err.Error()}
		}
		return http.StatusOK, struct{}{}
	}))
	mux.HandleFunc("POST /v1/reload", a.answerBy(a.request, func(r *http.Request) (int, any) {
		if err := a.reload(r.Context()); err != nil {
			return http.StatusUnprocessableEntity, failure{err.Error()}
		}
		return http.StatusOK, struct{}{}
	}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		send(w, http.StatusNotFound, failure{fmt.Sprintf("%s %.100s is not answered; these are: GET /v1/health, /v1/status and /metrics, POST /v1/suspend?id=ID and /v1/reload", r.Method, r.URL.Path)})
	})
	return mux
}

type failure struct {
	Error string `json:"error"`
}

// answer asks do and sends what it returns.
func (a *Agent) answer(do func(*http.Request) (int, any)) http.HandlerFunc {
	return a.answerBy(a.ask, do)
}

// answerBy runs do in Run's goroutine, by request or by ask, and sends what it returns.
func (a *Agent) answerBy(run func(context.Context, func()) error, do func(*http.Request) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // also -1, of a body in chunks: whoever sends one means something that is not done here
			send(w, http.StatusBadRequest, failure{fmt.Sprintf("%s %.100s takes no body; nothing was changed", r.Method, r.URL.Path)})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		var code int
		var body any
		if err := run(ctx, func() { code, body = do(r.WithContext(context.WithoutCancel(ctx))) }); err != nil {
			code, body = http.StatusServiceUnavailable, failure{err.Error()}
		}
		send(w, code, body)
	}
}

func send(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
