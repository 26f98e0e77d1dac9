package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// server is a real one of test/e2e/servers.sh, with a function that every request
// comes by.
type server struct {
	name, exe, function string
	start               func(*bench) (address string, pid int, stop func(), err error)
	dial                func(address string) (ask func() error, err error)
}

var servers = []server{
	{"nginx", "nginx", "ngx_http_process_request_headers", (*bench).startNginx, askNginx},
	{"redis", "redis-server", "processCommand", (*bench).startRedis, askRedis},
	{"postgres", "postgres", "pg_parse_query", (*bench).startPostgres, askPostgres},
}

// installed is the folder of a server that test/e2e/servers.sh has built.
func installed(name string) (string, error) {
	cache := os.Getenv("PIE_TEST_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(user, "pie-test")
	}
	dir := filepath.Join(cache, "servers", name)
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("%s is not built yet: run test/e2e/servers.sh %s (%w)", name, name, err)
	}
	return dir, nil
}

// serve starts a server's command and waits until it listens.
func (b *bench) serve(cmd *exec.Cmd, address string) (pid int, stop func(), err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	stop = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return cmd.Process.Pid, stop, nil
		} else if time.Now().After(end) {
			stop()
			return 0, nil, err
		}
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (b *bench) startNginx() (address string, pid int, stop func(), err error) {
	root, err := installed("nginx")
	if err != nil {
		return "", 0, nil, err
	}
	if address, err = freeAddress(); err != nil {
		return "", 0, nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "nginx")
	if err != nil {
		return "", 0, nil, err
	}
	configuration := fmt.Sprintf("daemon off; worker_processes 2; user root; pid %[1]s/pid; error_log %[1]s/error.log; events {} http { access_log off; keepalive_requests 1000000000; server { listen %[2]s; root %[1]s; } }\n", dir, address)
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(configuration), 0o600),
		os.WriteFile(filepath.Join(dir, "index.html"), bytes.Repeat([]byte("x"), 1024), 0o600),
		os.Mkdir(filepath.Join(dir, "logs"), 0o700))
	if err != nil {
		return "", 0, nil, err
	}
	pid, stop, err = b.serve(exec.Command(filepath.Join(root, "sbin/nginx"), "-p", dir, "-c", filepath.Join(dir, "nginx.conf")), address)
	return address, pid, stop, err
}

func askNginx(address string) (func() error, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	return func() error {
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			return err
		}
		reply, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, reply.Body)
		if err == nil && (n != 1024 || reply.StatusCode != http.StatusOK) {
			err = fmt.Errorf("%s, %d bytes", reply.Status, n)
		}
		return err
	}, nil
}

func (b *bench) startRedis() (address string, pid int, stop func(), err error) {
	root, err := installed("redis")
	if err != nil {
		return "", 0, nil, err
	}
	if address, err = freeAddress(); err != nil {
		return "", 0, nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(filepath.Join(root, "redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	cmd.Dir = b.dir
	pid, stop, err = b.serve(cmd, address)
	return address, pid, stop, err
}

func askRedis(address string) (func() error, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	return func() error {
		if _, err := c.Write([]byte("SET key value\r\n")); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err == nil && line != "+OK\r\n" {
			err = fmt.Errorf("redis says %q", line)
		}
		return err
	}, nil
}

// nobody runs postgres, which refuses to run as root.
const nobody = 65534

func (b *bench) startPostgres() (address string, pid int, stop func(), err error) {
	root, err := installed("postgres")
	if err != nil {
		return "", 0, nil, err
	}
	if address, err = freeAddress(); err != nil {
		return "", 0, nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	dir, err := os.MkdirTemp("", "pie-postgres") // where nobody may read
	if err != nil {
		return "", 0, nil, err
	}
	b.atEnd(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("cp", "-r", root+"/.", dir).CombinedOutput(); err != nil {
		return "", 0, nil, fmt.Errorf("copying postgres: %w\n%s", err, out)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	})
	if err != nil {
		return "", 0, nil, err
	}
	cmd := exec.Command(filepath.Join(dir, "bin/postgres"), "-D", filepath.Join(dir, "data"), "-p", port, "-k", "",
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "autovacuum=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if pid, stop, err = b.serve(cmd, address); err == nil {
		time.Sleep(time.Second) // it listens before it takes anybody
	}
	return address, pid, stop, err
}

// askPostgres speaks version 3 of the frontend/backend protocol.
func askPostgres(address string) (func() error, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	start := "\x00\x03\x00\x00user\x00pg\x00database\x00postgres\x00\x00"
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(start)+4)), start...)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	query := []byte("Q    SELECT 1 + 1\x00")
	binary.BigEndian.PutUint32(query[1:], uint32(len(query)-1))
	return func() error {
		if _, err := c.Write(query); err != nil {
			return err
		}
		return untilReady(r)
	}, untilReady(r)
}

// untilReady reads messages up to ReadyForQuery.
func untilReady(r *bufio.Reader) error {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		body := make([]byte, max(int(binary.BigEndian.Uint32(head[1:]))-4, 0))
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		switch head[0] {
		case 'E':
			return fmt.Errorf("postgres says %q", body)
		case 'Z':
			return nil
		}
	}
}
