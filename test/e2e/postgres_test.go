package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPostgres(t *testing.T) { runScenario(t, postgresScenario) }

var postgresScenario = scenario{
	start: startPostgres,
	dial:  dialPostgres,
	threats: []threat{{
		prepatch: "CVE-2023-5869",
		attack:   attackPostgres,
		// The backend dies, and the postmaster ends the other processes and starts anew.
		died: func(s *server, before []int) bool {
			return strings.Contains(s.out.String(), "was terminated by signal")
		},
	}},
}

// nobody runs postgres, which refuses to run as root.
const nobody = 65534

func startPostgres(t *testing.T) *server { return runPostgres(t, layOutPostgres(t)) }

// layOutPostgres copies postgres and its data to a folder that the user nobody may enter.
func layOutPostgres(t *testing.T) string {
	t.Helper()
	// Root alone may enter the cache and what TempDir makes.
	dir, err := os.MkdirTemp("", "pie-postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("cp", "-r", installed(t, "postgres")+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("copying postgres: %v\n%s", err, out)
	}
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runPostgres starts the postgres of a folder.
func runPostgres(t *testing.T, dir string) *server {
	t.Helper()
	port := freePort(t)
	cmd := exec.Command(filepath.Join(dir, "bin/postgres"), "-D", filepath.Join(dir, "data"), "-p", strconv.Itoa(port), "-k", "",
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "autovacuum=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	s := startServer(t, port, cmd)
	for end := time.Now().Add(20 * time.Second); !strings.Contains(s.out.String(), "ready to accept connections"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("postgres does not become ready\n%s", s.out.String())
		}
	}
	return s
}

// A postgresClient speaks version 3 of the frontend/backend protocol: simple queries.
type postgresClient struct {
	net.Conn
	r *bufio.Reader
	n int
}

func dialPostgres(addr string, _ int) (client, error) {
	c, err := newPostgresClient(addr)
	if err != nil {
		return nil, err
	}
	_, err = c.query("CREATE TEMP TABLE load (id int, a int[], b int[]); INSERT INTO load VALUES (1)")
	return c, err
}

func newPostgresClient(addr string) (*postgresClient, error) {
	conn, err := connect(addr)
	if err != nil {
		return nil, err
	}
	c := &postgresClient{Conn: conn, r: bufio.NewReader(conn)}
	deadline(c)
	if err = c.send(0, "\x00\x03\x00\x00user\x00pg\x00database\x00postgres\x00\x00"); err == nil {
		_, err = c.answer()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// send writes a message; one without a type begins the session.
func (c *postgresClient) send(kind byte, body string) error {
	var b []byte
	if kind != 0 {
		b = append(b, kind)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(body)))
	_, err := c.Write(append(b, body...))
	return err
}

// answer reads to ReadyForQuery and returns the columns of the data rows.
func (c *postgresClient) answer() (columns []string, err error) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(c.r, head); err != nil {
			return nil, err
		}
		body := make([]byte, min(max(int(binary.BigEndian.Uint32(head[1:]))-4, 0), 1<<20))
		if _, err := io.ReadFull(c.r, body); err != nil {
			return nil, err
		}
		switch head[0] {
		case 'Z':
			return columns, err
		case 'E':
			err = fmt.Errorf("postgres answers %q", body)
		case 'D':
			columns = append(columns, dataRow(body)...)
		}
	}
}

// dataRow returns the columns of a DataRow: a count, then each with its length.
func dataRow(body []byte) (columns []string) {
	for body = body[2:]; len(body) >= 4; {
		n := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if n < 0 {
			columns = append(columns, "NULL")
			continue
		}
		n = min(n, len(body))
		columns = append(columns, string(body[:n]))
		body = body[n:]
	}
	return columns
}

func (c *postgresClient) query(sql string) ([]string, error) {
	deadline(c)
	if err := c.send('Q', sql+"\x00"); err != nil {
		return nil, err
	}
	return c.answer()
}

// request sets elements and slices of arrays.
func (c *postgresClient) request() error {
	c.n++
	for _, step := range []struct{ sql, want string }{
		{"UPDATE load SET a = '{1,2,3}', b = '[-3:-1]={7,8,9}' RETURNING id", "1"},
		{fmt.Sprintf("UPDATE load SET a[2] = %d, b[-5] = 6 RETURNING a, b", c.n), fmt.Sprintf("{1,%d,3} [-5:-1]={6,NULL,7,8,9}", c.n)},
		{"UPDATE load SET a[2:3] = '{5,6}', b = '[-3:-1]={7,8,9}' RETURNING a, b", "{1,5,6} [-3:-1]={7,8,9}"},
		{"UPDATE load SET a[:2] = '{1,2}', b[:] = '{1,2,3}' RETURNING a, b", "{1,2,6} [-3:-1]={1,2,3}"},
	} {
		got, err := c.query(step.sql)
		if err != nil {
			return fmt.Errorf("%s: %w", step.sql, err)
		}
		if strings.Join(got, " ") != step.want {
			return fmt.Errorf("%s answered %q, want %q", step.sql, got, step.want)
		}
	}
	return nil
}

// Close ends the session and waits until its process does.
func (c *postgresClient) Close() error {
	c.send('X', "")
	c.SetDeadline(time.Now().Add(replyDeadline))
	io.Copy(io.Discard, c.r)
	return c.Conn.Close()
}

// attackPostgres sets an element that is 2^32−1 elements away from the first.
func attackPostgres(addr string) error {
	c, err := newPostgresClient(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := c.query(`CREATE TABLE IF NOT EXISTS far AS
			SELECT ('[-2147483648:-2147283649]={' || rtrim(repeat('NULL,', 200000), ',') || '}')::int[] AS a;
		UPDATE far SET a[2147483647] = 42;
		SELECT array_dims(a), cardinality(a) FROM far`)
	if want := []string{"[-2147483648:-2147283649]", "200000"}; err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("the array is now %q, want %q", got, want)
	}
	return err
}
