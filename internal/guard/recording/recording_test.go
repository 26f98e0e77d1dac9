package recording_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/recorder"
	"github.com/patch-integration-engine/pie/internal/guard/recording"
)

// sample is a recording of two calls.
func sample(t testing.TB, ended bool) []byte {
	t.Helper()
	var file bytes.Buffer
	h := recording.Header{ID: "CVE-1", Hash: "00", Begin: time.Unix(1e9, 0).UTC(), Clock: 1000, Every: 2, Memory: true,
		Guards: []recording.Guard{{Name: "A", Func: "f"}, {Name: "B", Func: "g", Lib: "libx.so.1"}}}
	w, err := recording.NewWriter(&file, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Process(recording.Process{Pid: 812, Exe: "/bin/x", Places: []recording.Place{{Guard: 1, Image: "x", Symbols: map[string]uint64{"0 table": 7}}}}); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(2) {
		c := recording.Call{Slot: recorder.Slot{
			Number: n, Guard: int(n), SP: 0x7ffc_0000_1000, Return: 0x55_0000_0000, Now: 2000, Verdict: bpf.Reject(1, 0),
			Args:    [bpf.FrameArgs]uint64{1, ^uint64(0), 3},
			Reads:   []recorder.Read{{Addr: 0x10000, Bytes: []byte("abc")}, {Addr: 0x10002, Bytes: []byte("xyz")}, {Addr: 0x10005, Bytes: []byte("!")}},
			Answers: []recorder.Answer{{Helper: bpf.HelperTid, Value: 9}},
		}}
		if err := w.Call(c); err != nil {
			t.Fatal(err)
		}
	}
	if !ended {
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return file.Bytes()
	}
	if err := w.Close(recording.Total{Recorded: 2, Why: "time"}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestReadsWhatWasWritten(t *testing.T) {
	for _, ended := range []bool{true, false} {
		r, err := recording.NewReader(bytes.NewReader(sample(t, ended)))
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint64(2) {
			c, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if c.Number != n || c.Guard != int(n) || c.Args[1] != ^uint64(0) || c.Verdict != bpf.Reject(1, 0) || len(c.Answers) != 1 {
				t.Errorf("call %d is %+v", n, c)
			}
			// What was read first counts, and neighbours are one piece.
			if len(c.Reads) != 1 || c.Reads[0].Addr != 0x10000 || string(c.Reads[0].Bytes) != "abcyz!" {
				t.Errorf("call %d read %+v", n, c.Reads)
			}
			if got := r.Header.Time(c); !got.Equal(time.Unix(1e9, 1000)) {
				t.Errorf("call %d was made at %v", n, got)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) || (r.Total != nil) != ended {
			t.Errorf("ended %v: the end is %v, total %v", ended, err, r.Total)
		}
	}
}

// A recorder that is killed leaves a file that ends anywhere.
func TestCutAnywhere(t *testing.T) {
	whole := sample(t, true)
	for n := range whole {
		r, err := recording.NewReader(bytes.NewReader(whole[:n]))
		if err != nil {
			continue
		}
		for err == nil {
			var c *recording.Call
			if c, err = r.Next(); err == nil {
				recording.Gather(c.Reads)
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
		if r.Total != nil && n < len(whole)-16 { // the frames are all there, gzip's own end is not
			t.Errorf("cut at %d: it says it is whole", n)
		}
	}
}

func TestNoRecording(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "not a recording",
		"#!/bin/sh":             "not a recording",
		"PIE\x9drec\x02":        "version 2; this pie reads version 1",
		recording.Magic:         "damaged",
		recording.Magic + "abc": "damaged",
	} {
		if _, err := recording.NewReader(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Memory answers as the sum of its reads would, the first one first.
func TestMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var reads []recorder.Read
		model := map[uint64]byte{}
		for range r.IntN(20) {
			read := recorder.Read{Addr: uint64(r.IntN(60)), Bytes: make([]byte, r.IntN(12))}
			for k := range read.Bytes {
				read.Bytes[k] = byte(r.Uint32())
				if _, ok := model[read.Addr+uint64(k)]; !ok {
					model[read.Addr+uint64(k)] = read.Bytes[k]
				}
			}
			reads = append(reads, read)
		}
		m := recording.Gather(reads)
		for addr := range uint64(75) {
			p := make([]byte, r.IntN(9))
			want := true
			for k := range p {
				b, ok := model[addr+uint64(k)]
				p[k], want = b, want && ok
			}
			got := make([]byte, len(p))
			if ok := m.Read(addr, got); ok != want || ok && !bytes.Equal(got, p) {
				t.Fatalf("reads %v: %d bytes at %d are %v, %v; want %v, %v", reads, len(p), addr, got, ok, p, want)
			}
		}
	}
}

// Memory whose end is no address would be sought for ever.
func TestMemoryAtTheEndOfAddresses(t *testing.T) {
	const last = math.MaxUint64
	call := make([]byte, 11) // nine words, no argument, no answer
	call = append(call, 2)
	for _, r := range []recorder.Read{{Addr: last - 5, Bytes: []byte("abcde")}, {Addr: last, Bytes: []byte("f")}} {
		call = binary.AppendUvarint(call, r.Addr)
		call = append(binary.AppendUvarint(call, uint64(len(r.Bytes))), r.Bytes...)
	}
	r, err := recording.NewReader(bytes.NewReader(recording.Frames(t, recording.Header{Guards: make([]recording.Guard, 1)}, []byte("{}"), call)))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Next(); !errors.Is(err, recording.ErrDamaged) {
		t.Errorf("%+v, %v; want ErrDamaged", c, err)
	}
	if recording.Gather(nil).Read(last, make([]byte, 1)) {
		t.Error("a byte that was not recorded is known")
	}
	if recording.Gather([]recorder.Read{{Addr: 10, Bytes: []byte("abc")}}).Read(last, make([]byte, 1)) {
		t.Error("a byte that was not recorded is known")
	}
}

// A hostile file ends in an error or in calls, never in a panic.
func FuzzReader(f *testing.F) {
	f.Add(sample(f, true))
	f.Add(sample(f, false))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := recording.NewReader(bytes.NewReader(file))
		for n := 0; err == nil && n < 10_000; n++ {
			var c *recording.Call
			if c, err = r.Next(); err == nil {
				if c.Process >= len(r.Processes) || c.Guard >= len(r.Header.Guards) || c.End >= recorder.Ends {
					t.Fatalf("call %+v of %d processes, %d guards", c, len(r.Processes), len(r.Header.Guards))
				}
				recording.Gather(c.Reads)
			}
		}
	})
}

// FuzzFrames has the compression, which no mutation survives, put on afterwards.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(`{}`), []byte{0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 1, 5, 3, 'a', 'b', 'c'})
	f.Fuzz(func(t *testing.T, process, call []byte) {
		file := recording.Frames(t, recording.Header{Guards: make([]recording.Guard, 2)}, process, call)
		r, err := recording.NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = r.Next()
		}
	})
}
