package e2e

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// A proxy passes bytes on, of TCP and UDP; on demand it holds each reply back for
// a while, or swallows all of them.
type proxy struct {
	listener net.Listener
	hold     atomic.Int64
	lose     atomic.Bool
}

func startProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: ln}
	t.Cleanup(func() { ln.Close() })
	packets, err := net.ListenPacket("udp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go p.datagrams(packets, upstream)
	go func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				down.Close()
				continue
			}
			go func() { io.Copy(up, down); closeWrite(up) }()
			go p.replies(down, up)
		}
	}()
	return p
}

func closeWrite(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) replies(down, up net.Conn) {
	defer down.Close()
	defer up.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if n > 0 && !p.lose.Load() {
			time.Sleep(time.Duration(p.hold.Load()))
			if _, err := down.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// datagrams relays UDP: each client has a socket of its own to the server.
func (p *proxy) datagrams(packets net.PacketConn, upstream string) {
	ups := map[string]net.Conn{}
	buf := make([]byte, 64<<10)
	for {
		n, client, err := packets.ReadFrom(buf)
		if err != nil {
			break
		}
		up := ups[client.String()]
		if up == nil {
			if up, err = net.Dial("udp", upstream); err != nil {
				break
			}
			ups[client.String()] = up
			go p.datagramReplies(packets, client, up)
		}
		up.Write(buf[:n])
	}
	for _, up := range ups {
		up.Close()
	}
}

func (p *proxy) datagramReplies(packets net.PacketConn, client net.Addr, up net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		if !p.lose.Load() {
			time.Sleep(time.Duration(p.hold.Load()))
			packets.WriteTo(buf[:n], client)
		}
	}
}
