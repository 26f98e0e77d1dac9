package pie

import "context"

// GuardPlan is where one guard would go in one process.
type GuardPlan struct {
	Guard    string   `json:"guard"`
	Function string   `json:"function"`
	Image    string   `json:"image"`
	How      string   `json:"how"` // the evidence for the function
	Entry    string   `json:"entry"`
	Site     string   `json:"site"`
	Before   string   `json:"before"` // the bytes to be replaced, hex
	After    string   `json:"after"`
	Faults   string   `json:"fault_mode"`
	Code     int      `json:"code_bytes"`
	Copies   []string `json:"uncovered,omitempty"` // copies of the function no guard sees
	Notes    []string `json:"notes,omitempty"`
}

// ProcessPlan is what Insert would do in one process.
type ProcessPlan struct {
	Pid     int         `json:"pid"`
	Exe     string      `json:"exe"`
	Already bool        `json:"already"` // the prepatch is in
	Guards  []GuardPlan `json:"guards,omitempty"`
	Refused *Refusal    `json:"refused,omitempty"`
}

// Plan tells what Insert would do in the selected processes; nothing is changed
// and no thread is stopped.
func Plan(ctx context.Context, p *Prepatch, sel Select, o Options) ([]ProcessPlan, error) {
	return nil, errNotBuilt
}
