// Command govictim is a Go program with functions and variables to find.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"unsafe"
)

var errOwn = errors.New("own")

type client struct{ n int }

//go:noinline
func (c *client) process(b []byte) error {
	c.n += len(b)
	if c.n < 0 {
		return io.EOF
	}
	if len(b) > 1<<30 {
		return errOwn
	}
	return nil
}

func main() {
	c := &client{}
	process := (*client).process
	_ = process(c, []byte("x"))
	_, _ = io.ReadFull(strings.NewReader("x"), make([]byte, 2))
	_, _ = bufio.NewReader(strings.NewReader("x")).Peek(2)
	fmt.Printf("process %#x\n", reflect.ValueOf(process).Pointer())
	fmt.Printf("io.EOF %p\n", unsafe.Pointer(&io.EOF))
	fmt.Printf("io.ErrUnexpectedEOF %p\n", unsafe.Pointer(&io.ErrUnexpectedEOF))
	fmt.Printf("main.errOwn %p\n", unsafe.Pointer(&errOwn))
	fmt.Println("ready 1")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
