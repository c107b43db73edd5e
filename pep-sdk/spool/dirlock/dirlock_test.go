package dirlock

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestSecondOwnerIsRefusedWithThePidOfTheFirst(t *testing.T) {
	dir := t.TempDir()
	first, err := Acquire(dir, "lock")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(dir, "lock")
	if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := Acquire(dir, "lock")
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	if err := second.Release(); err != nil {
		t.Error(err)
	}
}

func TestMissingFolderIsNotAHeldOne(t *testing.T) {
	_, err := Acquire(t.TempDir()+"/missing", "lock")
	if err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("got %v", err)
	}
}
