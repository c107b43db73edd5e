package difftest

// dice are the choices of a program that is being written: bytes, each of
// which is used once. Where they end, every choice is the first, which is the
// simplest, so that few bytes make small programs.
type dice struct {
	bytes []byte
	next  int
}

// roll is a number below n, which is at most 65536.
func (d *dice) roll(n int) int {
	if n <= 1 {
		return 0
	}
	v := d.byte()
	if n > 256 {
		v = v<<8 | d.byte()
	}
	return v % n
}

func (d *dice) byte() int {
	if d.next >= len(d.bytes) {
		return 0
	}
	d.next++
	return int(d.bytes[d.next-1])
}

// once in n times.
func (d *dice) once(n int) bool { return d.roll(n) == n-1 }

func pick[T any](d *dice, of ...T) T { return of[d.roll(len(of))] }
