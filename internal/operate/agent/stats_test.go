package agent

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// named is a collector of one metric with these labels.
type named []string

func (n named) Describe(chan<- *prometheus.Desc) {}
func (n named) Collect(out chan<- prometheus.Metric) {
	out <- metric(processes, prometheus.GaugeValue, 1, n)
}

// A program may lie at any path, and say anything of its functions: whoever reads the
// metrics gets them all the same.
func TestMetricsOfAnyName(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(named{"CVE-1", "/tmp/\xff\xfe/nginx", "7", Refused, ""})
	families, err := r.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	for _, l := range families[0].GetMetric()[0].GetLabel() {
		if l.GetName() == "exe" && l.GetValue() != "/tmp/\uFFFD/nginx" {
			t.Errorf("exe is %q", l.GetValue())
		}
	}
}
