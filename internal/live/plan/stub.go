package plan

import "errors"

// ChooseSite finds where f is patched. Errors are *Refusal.
func ChooseSite(f Function) (Site, error) { return Site{}, errors.New("plan: not built yet") }

// Build places and compiles every guard. Errors are *Refusal.
func Build(in Input) (*Plan, error) { return nil, errors.New("plan: not built yet") }
