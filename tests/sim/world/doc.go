// Package world is what the simulators of vendors' services stand on: a clock
// that a test moves, a door at which requests fail on demand, a listener that
// can go down and come back, and verbs over HTTP for those who cannot call Go.
// It knows no vendor's protocol, and nothing of what is tested against it.
package world
