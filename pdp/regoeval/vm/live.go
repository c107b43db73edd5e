package vm

// locals is a set of locals.
type locals []uint64

func (l locals) has(o int32) bool { return l[o/64]&(1<<(o%64)) != 0 }

func (l locals) remove(o int32) { l[o/64] &^= 1 << (o % 64) }

// add adds the local of an operand, if it is one.
func (l locals) add(o int32) {
	if o >= 0 {
		l[o/64] |= 1 << (o % 64)
	}
}

// mostLive is up to how many words sets of locals may take for one function.
// One that is larger stays as the plan has it.
const mostLive = 1 << 20

// live returns, of each instruction, the locals that may be read from there on
// before they are set; nil of a function that is too large.
func (f *function) live() []locals {
	words := (f.locals + 63) / 64
	if (len(f.code)+1)*words > mostLive {
		return nil
	}
	all, room := make([]locals, len(f.code)+1), make(locals, (len(f.code)+2)*words)
	for i := range all {
		all[i], room = room[:words:words], room[words:]
	}
	now := room
	for changed := true; changed; {
		changed = false
		for i := len(f.code) - 1; i >= 0; i-- {
			f.liveAt(&f.code[i], all[i+1], all, now)
			for w := range now {
				if now[w] != all[i][w] {
					all[i][w], changed = now[w], true
				}
			}
		}
	}
	return all
}

// liveAt sets now to what is live before an instruction.
func (f *function) liveAt(in *instr, next locals, all []locals, now locals) {
	clear(now)
	if in.branches() {
		copy(now, all[in.to])
		if set := in.sets(); set >= 0 {
			now.remove(set)
		}
	}
	if in.falls() {
		kept := [2]int32{-1, -1} // live on the other way alone
		in.writes(func(l int32) {
			for i := range kept {
				if kept[i] < 0 && now.has(l) {
					kept[i] = l
					break
				}
			}
		})
		for w := range now {
			now[w] |= next[w]
		}
		in.writes(now.remove)
		now.add(kept[0])
		now.add(kept[1])
	}
	f.reads(in, now.add)
}

// dropUnread leaves out what is never reached, what only sets a local that
// nothing reads from there on, and jumps to what comes next.
func (f *function) dropUnread() {
	for {
		live, reached := f.live(), f.reached()
		dropped := f.keep(func(i int) bool {
			in := &f.code[i]
			switch in.op {
			case opJump:
				return reached[i] && int(in.to) != i+1
			case opMove, opReset, opLevel, opLen, opArray, opObject, opSet:
				return reached[i] && (live == nil || live[i+1].has(in.a))
			}
			return reached[i]
		})
		if dropped == 0 {
			return
		}
	}
}

// reached says which instructions can be.
func (f *function) reached() []bool {
	all := make([]bool, len(f.code))
	for todo := []int{0}; len(todo) > 0; {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if all[i] {
			continue
		}
		all[i] = true
		if f.code[i].falls() {
			todo = append(todo, i+1)
		}
		if f.code[i].branches() {
			todo = append(todo, int(f.code[i].to))
		}
	}
	return all
}

// keep leaves out all other instructions, and returns how many those were.
func (f *function) keep(wanted func(i int) bool) int {
	moved := make([]int32, len(f.code)+1)
	n := int32(0)
	code, places := make([]instr, 0, len(f.code)), make([]place, 0, len(f.code))
	for i := range f.code {
		moved[i] = n
		if wanted(i) {
			code, places = append(code, f.code[i]), append(places, f.places[i])
			n++
		}
	}
	left := len(f.code) - len(code)
	f.code, f.places = code, places
	for i := range f.code {
		if in := &f.code[i]; in.branches() {
			in.to = moved[in.to]
		}
	}
	return left
}

// settleLocals numbers the locals that are used without gaps, and notes those
// that must be undefined when the function begins. Its parameters, of which
// input and data are the first, come first.
func (f *function) settleLocals() {
	number := make(map[int32]int32)
	give := func(o int32) {
		if _, known := number[o]; !known && o >= 0 {
			number[o] = int32(len(number))
		}
	}
	for _, l := range f.params {
		give(l)
	}
	for i := range f.code {
		if in := &f.code[i]; in.op == opEnter || in.op == opLeave {
			give(in.c) // what `with` keeps is in two that follow each other
			give(in.c + 1)
		}
	}
	for i := range f.code {
		f.reads(&f.code[i], give)
		f.code[i].writes(give)
	}
	rename := func(o int32) int32 {
		if o < 0 {
			return o
		}
		return number[o]
	}
	for i := range f.code {
		f.code[i].rename(rename)
	}
	for i, o := range f.args {
		f.args[i] = rename(o)
	}
	f.locals = len(number)
	f.noteUnset()
}

func (f *function) noteUnset() {
	params := int32(len(f.params))
	live := f.live()
	for l := params; l < int32(f.locals); l++ {
		if live == nil || live[0].has(l) {
			f.unset = append(f.unset, l)
		}
	}
	for i := range f.code {
		f.code[i].writes(func(l int32) {
			if l >= 2 && l < params {
				f.latest = -1 // its arguments are not what they were
			}
		})
	}
}
