package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie/internal/operate/demo"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) demoCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Guard a real server while clients use it, and show every step",
		Long: `Build nats-server v2.0.0 from the Go module proxy, start it on loopback, keep real
clients publishing, show the crash of an unguarded twin under the attack of
CVE-2019-13126, guard the running server, attack it 100 times, and take the guard
out again. Needs the go command; nothing outside a cache folder is touched.`,
		Args: exact(0, "no argument"),
	}
	c.Flags().StringVar(&dir, "dir", "", "keep the built server in this `FOLDER` (default: your cache folder)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		place, err := demoDir(dir)
		if err != nil {
			return err
		}
		return demo.Run(c.Context(), demo.Options{Dir: place, Out: a.out, Style: term.StyleFor(a.out, a.getenv), Progress: a.progress.Step})
	}
	return c
}

func demoDir(dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "pie", "nats-server-v2.0.0"), nil
}
