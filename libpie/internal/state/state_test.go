package state

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/libpie/internal/words"
)

// A table does what a map does, as long as there is room.
func TestTableIsAMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		keys := 1 + r.Uint64N(200)
		rows := Rows(keys)
		w, model := make(words.Words, Words(rows)), map[uint64]uint64{}
		refused := 0
		for range 5000 {
			key, n := r.Uint64N(keys)*0x10001, r.Uint64()
			switch r.IntN(4) {
			case 0:
				if Put(w, seed, rows-1, key, n) {
					model[key] = n
				} else {
					refused++
				}
			case 1:
				if sum, ok := Add(w, seed, rows-1, key, n); !ok {
					refused++
				} else if model[key] += n; sum != model[key] {
					t.Fatalf("seed %d: key %#x has %d, want %d", seed, key, sum, model[key])
				}
			case 2:
				Delete(w, seed, rows-1, key)
				delete(model, key)
			}
			want, there := model[key]
			if got, found := Get(w, seed, rows-1, key); got != want || found != there {
				t.Fatalf("seed %d: key %#x is %d, %v; want %d, %v", seed, key, got, found, want, there)
			}
		}
		if refused > 0 {
			t.Errorf("seed %d: %d operations on %d keys found no room in %d rows", seed, refused, keys, rows)
		}
	}
}

// What threads add at once to the same keys is all there.
func TestAddAtOnce(t *testing.T) {
	const keys, threads, times = 40, 8, 20_000
	rows := Rows(keys)
	w := make(words.Words, Words(rows))
	var all sync.WaitGroup
	for n := range uint64(threads) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(n, 2))
			for range times {
				key := r.Uint64N(keys)
				if _, ok := Add(w, 9, rows-1, key, 1); !ok {
					t.Errorf("no room for key %d", key)
				}
				AddOwn(w, 9, rows-1, 1<<40+n, 1)
			}
		})
	}
	all.Wait()
	sum := uint64(0)
	for key := range uint64(keys) {
		n, _ := Get(w, 9, rows-1, key)
		sum += n
	}
	if sum != threads*times {
		t.Errorf("%d of %d additions are there", sum, threads*times)
	}
	for n := range uint64(threads) {
		if own, _ := Get(w, 9, rows-1, 1<<40+n); own != times {
			t.Errorf("thread %d has %d of %d", n, own, times)
		}
	}
}

// A key is allowed so many calls, however many threads make them at once.
func TestAllowAtOnce(t *testing.T) {
	const burst, threads = 50, 8
	w := make(words.Words, Words(1))
	var all sync.WaitGroup
	var allowed [threads]int
	for n := range threads {
		all.Go(func() {
			for range 1000 {
				if Allow(w, 3, 0, 77, 1e9, 1e6, burst*1e6, false) {
					allowed[n]++
				}
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range allowed {
		sum += n
	}
	if sum < burst || sum > burst+burst/lost+1 {
		t.Errorf("%d calls are allowed, want %d", sum, burst)
	}
}

// While somebody writes anything anywhere, every operation ends and stays within
// the table: an index outside of it would panic.
func TestHostileSharer(t *testing.T) {
	const keys = 100
	rows := Rows(keys)
	w := make(words.Words, Words(rows))
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		r := rand.New(rand.NewPCG(1, 3))
		for {
			select {
			case <-stop:
				return
			default:
			}
			words.Store(w, r.Uint64N(uint64(len(w))), []uint64{0, r.Uint64(), r.Uint64N(keys), ^uint64(0), 1 << 63}[r.IntN(5)])
		}
	})
	r := rand.New(rand.NewPCG(1, 4))
	slowest := time.Duration(0)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		key, n := r.Uint64N(keys), r.Uint64()
		start := time.Now()
		Put(w, 5, rows-1, key, n)
		Get(w, 5, rows-1, key)
		Add(w, 5, rows-1, key, n)
		SetOwn(w, 5, rows-1, key|1, n)
		AddOwn(w, 5, rows-1, key|1, n)
		Allow(w, 5, rows-1, key, n, 1+n%1e9, (1+n%1e9)*20, true)
		Delete(w, 5, rows-1, key)
		slowest = max(slowest, time.Since(start))
	}
	close(stop)
	all.Wait()
	t.Logf("the slowest round of operations took %v", slowest)
}
