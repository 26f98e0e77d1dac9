package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// insert prints how long a whole `pie insert` into a real nginx takes, master and
// two workers, from the start of the command to its end.
func (b *bench) insert() error {
	cache := os.Getenv("PIE_TEST_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		cache = filepath.Join(user, "pie-test")
	}
	binary := filepath.Join(cache, "servers/nginx/sbin/nginx")
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("nginx is not built yet: run test/e2e/servers.sh nginx (%w)", err)
	}
	fmt.Print("\n## Wall time of `pie insert` into nginx (master and two workers)\n\n| repeats | median ms | all |\n|---|---|---|\n")
	var wall []float64
	for range b.repeat {
		took, err := b.insertOnce(binary)
		if err != nil {
			return err
		}
		wall = append(wall, took.Seconds()*1e3)
	}
	fmt.Printf("| %d | %.1f | %.1f |\n", b.repeat, median(wall), wall)
	return nil
}

func (b *bench) insertOnce(binary string) (time.Duration, error) {
	dir, err := os.MkdirTemp(b.dir, "nginx")
	if err != nil {
		return 0, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address := listener.Addr().String()
	listener.Close()
	configuration := fmt.Sprintf("daemon off; worker_processes 2; user root; pid %[1]s/pid; error_log %[1]s/error.log; events {} http { access_log off; server { listen %[2]s; root %[1]s; } }\n", dir, address)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(configuration), 0o600); err != nil {
		return 0, err
	}
	if err := os.Mkdir(filepath.Join(dir, "logs"), 0o700); err != nil {
		return 0, err
	}
	server := exec.Command(binary, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := server.Start(); err != nil {
		return 0, err
	}
	defer server.Wait()
	defer syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		} else if time.Now().After(end) {
			return 0, err
		}
	}
	start := time.Now()
	err = b.pie("insert", "CVE-2024-7347", "--pid", strconv.Itoa(server.Process.Pid), "--yes")
	return time.Since(start), err
}
