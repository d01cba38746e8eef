package log_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-net/whorl/internal/jet"
	"github.com/whorl-net/whorl/internal/log"
)

// childEnv makes the test binary a writer: it appends records to the log in the
// folder named, each with its position as its number, and prints the positions
// that are safe.
const childEnv = "WHORL_LOG_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := appendForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func appendForEver(dir string) error {
	server, err := jet.Start(jet.Config{Dir: dir})
	if err != nil {
		return err
	}
	messages, err := server.Open(context.Background(), log.Stream(64<<20))
	if err != nil {
		return err
	}
	l, err := log.Open(context.Background(), messages, log.Config{GroupEvery: time.Millisecond})
	if err != nil {
		return err
	}
	last := l.Stats().Last
	r, err := l.Reader(last)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { // what is read is let go of
		for {
			if _, err := r.Next(context.Background()); err != nil {
				failed <- err
				return
			}
		}
	}()
	for {
		last++
		position := last
		_, err := l.Submit(context.Background(), func(err error) {
			if err == nil {
				fmt.Println(position)
			}
		}, record(int(position)))
		if err != nil {
			return err
		}
		select {
		case err := <-failed:
			return err
		case <-time.After(20 * time.Microsecond):
		}
	}
}

// Whatever was said to be safe is in the log after kill -9, once and in order.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timeout := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		safe, told := 0, 0
		for lines := bufio.NewScanner(out); lines.Scan(); told++ {
			if safe, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if told == 300+100*round {
				cmd.Process.Kill()
			}
		}
		timeout.Stop()
		_ = cmd.Wait() // it was killed
		if told < 300 {
			t.Fatalf("only %d records were safe before the kill: the run does not count", told)
		}

		server, err := jet.Start(jet.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		messages, err := server.Open(t.Context(), log.Stream(64<<20))
		if err != nil {
			t.Fatal(err)
		}
		l := open(t, messages)
		numbers := readAll(t, l, 0)
		if len(numbers) < safe {
			t.Errorf("%d records were safe, %d are there", safe, len(numbers))
		}
		for i, n := range numbers {
			if n != i+1 {
				t.Fatalf("record %d is %d", i+1, n)
			}
		}
		l.Close()
		server.Stop()
	}
}
