package pdp

// largeTables is how much text of tables, read anew, makes a release's
// activation give memory back.
const largeTables = 16 << 20

// replacesLarge reports whether large tables were read that take the place of
// what was active.
func replacesLarge(before, after *Snapshot) bool {
	tables := after.tables()
	return tables != nil && tables.read >= largeTables && tables != before.tables()
}

// tables are those of the snapshot's release, nil where there are none.
func (s *Snapshot) tables() *Tables {
	if s == nil || s.Release == nil || s.Release.basis == nil {
		return nil
	}
	return s.Release.basis.tables
}

// giveBack returns to the system what reading tables took and what the version
// before them held: the runtime by itself keeps that room for minutes. It
// collects the garbage of the whole process, beside the decisions.
func (p *PDP) giveBack() {
	if p.givingBack.CompareAndSwap(false, true) {
		go func() {
			defer p.givingBack.Store(false)
			p.freeMemory()
		}()
	}
}
