package libpie

import (
	"reflect"

	"github.com/patch-integration-engine/pie/libpie/internal/native"
	"github.com/patch-integration-engine/pie/libpie/internal/state"
	"github.com/patch-integration-engine/pie/libpie/internal/words"
)

// State is kept in package-level variables of the prepatch. All of its guards see
// the same; each process has its own, and a child of fork(2) goes on with a copy,
// unless the prepatch says //pie:shared: then what forks from one another shares it.
// It begins empty when the prepatch is inserted. Every operation is short, waits for
// nobody, and may be interrupted by a signal handler that does the same.

// MaxState is how many bytes of state a prepatch may have.
const MaxState = 256 << 10

// Number is an integer that fits one word.
type Number interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uint | ~uintptr
}

// Counter is a number that all threads count in. The zero Counter is ready:
//
//	var refused libpie.Counter
type Counter struct{ _ byte }

// Add adds n and returns the sum.
func (x *Counter) Add(c *Call, n uint64) uint64 { return words.Add(x.words(c), 0, n) + n }

// Value returns the number.
func (x *Counter) Value(c *Call) uint64 { return words.Load(x.words(c), 0) }

// Set sets the number to n.
func (x *Counter) Set(c *Call, n uint64) { words.Store(x.words(c), 0, n) }

func (x *Counter) words(c *Call) words.Words {
	w, _ := c.env.State(x, 1)
	return w
}

// Map holds a value for each of a fixed number of keys. NewMap makes one:
//
//	var sizes = libpie.NewMap[libpie.Addr, uint32](1000)
//
// When two threads change the value of one key at once, one of them is last. When
// one deletes a key that another changes, the change may be lost.
type Map[K Value, V Number] struct{ keys int }

// NewMap returns a map with room for so many keys, a constant. Once in a
// while there is none for a key although there are fewer in it: each has sixteen
// places only.
func NewMap[K Value, V Number](keys int) Map[K, V] { return Map[K, V]{keys} }

// Get returns the value of key k; found is false, and v 0, when there is none.
func (m *Map[K, V]) Get(c *Call, k K) (v V, found bool) {
	w, seed, last := table(c, m, m.keys)
	n, found := state.Get(w, seed, last, toWord(k))
	return fromWord[V](n), found
}

// Put sets the value of key k. It is false, and nothing is kept, when there is no
// room for the key.
func (m *Map[K, V]) Put(c *Call, k K, v V) bool {
	w, seed, last := table(c, m, m.keys)
	return state.Put(w, seed, last, toWord(k), toWord(v))
}

// Add adds n to the value of key k, which is 0 when there is none, and returns the
// sum. ok is false, and nothing is kept, when there is no room for the key.
func (m *Map[K, V]) Add(c *Call, k K, n V) (sum V, ok bool) {
	w, seed, last := table(c, m, m.keys)
	s, ok := state.Add(w, seed, last, toWord(k), toWord(n))
	return fromWord[V](s), ok
}

// Delete takes key k out.
func (m *Map[K, V]) Delete(c *Call, k K) {
	w, seed, last := table(c, m, m.keys)
	state.Delete(w, seed, last, toWord(k))
}

// PerThread holds a value for each thread, in a Go program for each goroutine. It
// begins as 0, or with what an ended thread left whose place the new one has.
// NewPerThread makes one:
//
//	var depth = libpie.NewPerThread[int32](64)
type PerThread[T Number] struct{ threads int }

// NewPerThread returns room for so many threads, a constant. When there are more,
// some lose their value: it is 0 again.
func NewPerThread[T Number](threads int) PerThread[T] { return PerThread[T]{threads} }

// Get returns the calling thread's value.
func (p *PerThread[T]) Get(c *Call) T {
	w, seed, last := table(c, p, p.threads)
	n, _ := state.Get(w, seed, last, c.env.Thread())
	return fromWord[T](n)
}

// Set sets the calling thread's value.
func (p *PerThread[T]) Set(c *Call, v T) {
	w, seed, last := table(c, p, p.threads)
	state.SetOwn(w, seed, last, c.env.Thread(), toWord(v))
}

// Add adds n to the calling thread's value, and returns the sum.
func (p *PerThread[T]) Add(c *Call, n T) T {
	w, seed, last := table(c, p, p.threads)
	return fromWord[T](state.AddOwn(w, seed, last, c.env.Thread(), toWord(n)))
}

// TableSize returns how many rows and 64-bit words a Map, PerThread or Limiter of
// so many keys has. A guard has no use for it.
func TableSize(keys int) (rows, words int) {
	n := state.Rows(uint64(keys))
	return int(n), int(state.Words(n))
}

// table returns the words of a table for so many keys, the seed of its hash, and
// the number of its last row.
func table(c *Call, x any, keys int) (w words.Words, seed, last uint64) {
	rows := state.Rows(uint64(keys))
	w, seed = c.env.State(x, int(state.Words(rows)))
	return w, seed, rows - 1
}

func toWord[T Value](v T) uint64 { return native.Word(reflect.ValueOf(v)) }

func fromWord[T Value](w uint64) T {
	var t T
	native.SetWord(reflect.ValueOf(&t).Elem(), w)
	return t
}
