package jit

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

func helperDemand(h bpf.Helper) demand { return demand{early: true} }

func (e *emitter) vectorBytes() int32 { return 0 }

func (e *emitter) helper(v *value) { e.UD2() }
