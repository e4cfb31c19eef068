package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand puts the environment's values in place of ${NAME}; $${ stands for ${ itself. A $ without a brace is text
// ($argon2id$...). Used tells whether anything was taken from the environment.
func expand(s string, env func(string) (string, bool)) (out string, used bool, err error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), used, nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		name, rest, closed := strings.Cut(s[i+2:], "}")
		if !closed || !envName.MatchString(name) {
			return "", used, errors.New("has ${ without the name of an environment variable and }")
		}
		value, ok := env(name)
		if !ok {
			return "", used, fmt.Errorf("needs the environment variable %s, which is not set", name)
		}
		b.WriteString(value)
		s, used = rest, true
	}
}

// maxSecretFile bounds what is read for one file: value.
const maxSecretFile = 64 << 10

// readValue reads what a file: value names, without the line end that editors add.
func readValue(path string) (string, error) {
	b, err := readRegular(path, maxSecretFile)
	return strings.TrimRight(string(b), "\r\n"), err
}

// readRegular reads a whole regular file, never a device or pipe that might not end.
func readRegular(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("it is larger than %s", Size(most))
	}
	return b, err
}

// cause leaves out the path, which the mistake shows as it was written.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
