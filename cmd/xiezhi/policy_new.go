package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

//go:embed templates
var templates embed.FS

func newPolicyNew() *cobra.Command {
	var folder policyFolder
	var language string
	cmd := &cobra.Command{
		Use:   "new platform/<name> | tenants/<tenant>/<name>",
		Short: "Write a rule and its test cases to start from",
		Long: `New writes a policy with one rule, and test cases that hold and reach all of it,
into the policy folder. Nothing that is there is overwritten.`,
		Example: "  xiezhi policy new platform/disks\n  xiezhi policy new tenants/acme/disks --language cedar",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if folder.dir == "" {
				folder.dir = defaultFolder
			}
			return writePolicy(cmd, &folder, args[0], language)
		},
	}
	cmd.Flags().StringVar(&folder.dir, "policies", "", "policy `folder`, made if it is not there (default ./policies)")
	cmd.Flags().StringVar(&language, "language", "rego", "rego, cedar or cel (a rule document)")
	return cmd
}

// extensions are the endings of policy files, by language.
var extensions = map[string]string{"rego": ".rego", "cedar": ".cedar", "cel": ".policy.yaml"}

// newcomer is what the templates are filled with.
type newcomer struct {
	ID       string // "tenants/acme/disks"
	Name     string // "disks"
	Package  string // of Rego
	Tenant   string // that the test cases ask for
	Mistyped string // the reason for a value of another type
}

// policyName is a name that all three languages take.
var policyName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

func describeNewcomer(id, language string) (newcomer, error) {
	layer, tenant, err := pdp.PolicyPlace(id)
	n := newcomer{ID: id, Name: path.Base(id), Tenant: tenant, Mistyped: "disks_out_of_range"}
	folder := "platform/"
	if layer == pdp.LayerTenant {
		folder = "tenants/" + tenant + "/"
	}
	switch {
	case err != nil || layer == pdp.LayerSelf || folder+n.Name != id:
		return n, fmt.Errorf("%q: want platform/<name> or tenants/<tenant>/<name>", id)
	case !policyName.MatchString(n.Name):
		return n, fmt.Errorf("%q: a name is a lower-case letter, then letters, digits and _", n.Name)
	case extensions[language] == "":
		return n, fmt.Errorf("--language %q: want rego, cedar or cel", language)
	}
	switch {
	case layer == pdp.LayerPlatform:
		n.Tenant, n.Package = "acme", "xiezhi.platform."+n.Name
	case strings.Contains(tenant, "-") || tenant[0] <= '9':
		n.Package = fmt.Sprintf("xiezhi.tenants[%q].%s", tenant, n.Name)
	default:
		n.Package = "xiezhi.tenants." + tenant + "." + n.Name
	}
	if language == "cedar" { // a comparison of text with a number fails, and failing denies
		n.Mistyped = authz.RuleEvaluationError
	}
	return n, nil
}

func writePolicy(cmd *cobra.Command, folder *policyFolder, id, language string) error {
	n, err := describeNewcomer(id, language)
	if err != nil {
		return err
	}
	for _, ending := range []string{".rego", ".cedar", ".policy.yaml", ".policy.yml", ".policy.json", "_cases.yaml"} {
		if _, err := os.Lstat(folder.place(id + ending)); err == nil {
			return fmt.Errorf("%s is there already: choose another name, or edit it", folder.place(id+ending))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	files := []struct{ name, template string }{
		{id + extensions[language], "policy." + language + ".tmpl"},
		{id + "_cases.yaml", "cases.yaml.tmpl"},
	}
	written := []string{}
	for _, file := range files {
		name := folder.place(file.name)
		if err := writeNew(name, file.template, n); err != nil {
			return err
		}
		written = append(written, name)
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, struct {
			Policy string   `json:"policy"`
			Files  []string `json:"files"`
		}{id, written})
	}
	out := newPrinter(cmd)
	for _, name := range written {
		out.line("%s", name)
	}
	out.line("try it: xiezhi policy test --policies %s %s", folder.dir, id)
	return out.err
}

// writeNew fills a template into a file that is not there yet.
func writeNew(name, templateName string, n newcomer) (err error) {
	text, err := template.New(templateName).Option("missingkey=error").ParseFS(templates, "templates/"+templateName)
	if err != nil {
		return fmt.Errorf("read template: %w", err)
	}
	var filled bytes.Buffer
	if err := text.Execute(&filled, n); err != nil {
		return fmt.Errorf("fill template: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	_, err = f.Write(filled.Bytes())
	return err
}
