package feishu

import (
	"reflect"
	"testing"
)

func FuzzFramesAreReadAsWritten(f *testing.F) {
	f.Add((&frame{seqID: 1, logID: 300, service: 7, method: 1, headers: [][2]string{{"type", "event"}, {"seq", "0"}}, payload: []byte("{}"), logIDNew: "x"}).encode())
	f.Add([]byte{1 << 3, 0xff})
	f.Add([]byte{5<<3 | 2, 200, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := decodeFrame(b)
		if err != nil {
			return
		}
		again, err := decodeFrame(first.encode())
		if err != nil || first.service < 0 || first.method < 0 {
			return // negative numbers are not written by this encoder
		}
		if len(first.payload) == 0 {
			first.payload, again.payload = nil, nil
		}
		if !reflect.DeepEqual(first, again) {
			t.Errorf("%+v, then %+v", first, again)
		}
	})
}

func FuzzCardsAreSeenOrRefused(f *testing.F) {
	f.Add(`{"schema":"2.0","config":{"update_multi":true},"header":{"title":{"tag":"plain_text","content":"x"}},"body":{"elements":[{"tag":"form","name":"f","elements":[{"tag":"button","name":"b","text":{"tag":"plain_text","content":"x"},"form_action_type":"submit","behaviors":[{"type":"callback","value":{}}]}]}]}}`)
	f.Add(`{"elements":[{"tag":"action","actions":[{"tag":"button","value":{}}]},{"tag":"note","elements":[1]},{"tag":"div","fields":[null]}]}`)
	f.Add(`{"schema":"2.0","body":{"elements":[null]}}`)
	f.Fuzz(func(_ *testing.T, text string) {
		c, err := parseCard(text)
		if err != nil {
			return
		}
		for _, b := range c.view("en").Buttons {
			_, _ = tapped(c, Tap{Button: b.Name})
		}
	})
}
