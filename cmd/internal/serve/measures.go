package serve

import (
	"github.com/xiezhi-project/xiezhi/cmd/internal/httpd"
	"github.com/xiezhi-project/xiezhi/cmd/internal/stream"
	"github.com/xiezhi-project/xiezhi/pep-sdk/spool"
)

// measures are what the metrics tell of the parts behind the doors.
func (n *Node) measures() []httpd.Measure {
	records := func(name, help string, count func(spool.Stats) uint64) httpd.Measure {
		return httpd.Measure{
			Name: "xiezhi_audit_records_" + name + "_total", Help: help, Total: true,
			Read: func() float64 { return float64(count(n.spool.Stats())) },
		}
	}
	pushed := func(name, help string, count func(stream.Stats) uint64) httpd.Measure {
		return httpd.Measure{
			Name: "xiezhi_stream_" + name + "_total", Help: help, Total: true,
			Read: func() float64 { return float64(count(n.push.hub.Stats())) },
		}
	}
	rego := httpd.RegoMeasures(func() httpd.RegoStats { return n.policies.regoStats(n.PDP.Active()) })
	return append(rego, []httpd.Measure{
		records("appended", "Decision records handed to the spool; each becomes synced, lost or refused.", func(s spool.Stats) uint64 { return s.Appended }),
		records("synced", "Decision records that are on disk.", func(s spool.Stats) uint64 { return s.Synced }),
		records("lost", "Decision records of buffered policies that could not be kept, though the decision was answered.", func(s spool.Stats) uint64 { return s.Lost }),
		records("refused", "Decisions of strict policies that were refused because they could not be recorded.", func(s spool.Stats) uint64 { return s.Refused }),
		records("damaged", "Decision records that were on disk and could not be read again.", func(s spool.Stats) uint64 { return s.Damaged }),
		records("shipped", "Decision records that the database took, with those of an earlier run.", func(s spool.Stats) uint64 { return s.Shipped }),
		{Name: "xiezhi_audit_unshipped_bytes", Help: "Decision records that wait for the database.", Read: func() float64 { return float64(n.spool.Stats().UnshippedBytes) }},
		{Name: "xiezhi_stream_connections", Help: "PEPs that are connected to this node, those that poll included.", Read: func() float64 { return float64(n.push.hub.Stats().Connections) }},
		pushed("frames", "Frames sent to PEPs over sockets.", func(s stream.Stats) uint64 { return s.Frames }),
		pushed("bytes", "Bytes of these frames.", func(s stream.Stats) uint64 { return s.Bytes }),
		pushed("acks", "Acknowledgements of PEPs.", func(s stream.Stats) uint64 { return s.Acks }),
		pushed("rejects", "Releases and log ranges that PEPs refused.", func(s stream.Stats) uint64 { return s.Rejects }),
		pushed("resyncs", "Times that a PEP asked for everything again.", func(s stream.Stats) uint64 { return s.Resyncs }),
		pushed("refused", "PEPs that were not let in.", func(s stream.Stats) uint64 { return s.Refused }),
		pushed("dropped", "Connections that did not keep the protocol.", func(s stream.Stats) uint64 { return s.Dropped }),
		pushed("expelled", "Connections that lost their right.", func(s stream.Stats) uint64 { return s.Expelled }),
		pushed("stalls", "Writes to PEPs that gave up their place among the writers.", func(s stream.Stats) uint64 { return s.Stalls }),
		pushed("write_errors", "Connections that a write ended.", func(s stream.Stats) uint64 { return s.WriteErrors }),
		pushed("failures", "What this node could not do for PEPs; its log says what.", func(s stream.Stats) uint64 { return s.Failures }),
		{Name: "xiezhi_feed_age_seconds", Help: "Time since the last successful read of the store began.", Read: func() float64 { return n.Feed.Age().Seconds() }},
	}...)
}
