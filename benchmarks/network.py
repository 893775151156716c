"""The reduction between hosts: network namespaces of this machine as hosts, joined by shaped links.

    sudo .deps/venv/bin/python benchmarks/network.py [HOSTS [ROUNDS [MBIT]]]

Each host has a link of its own (1,000 Mbit/s both ways unless said otherwise) to one switch. Prints
the reduction's time against the link's bound for recursive halving and doubling, then how much of
the reduction resnet18's backward hides, in turn with overlap and without, and what is left of it
with bfloat16 on the wire; the losses must agree bit for bit with those of one host. Needs root, iproute2 and build/dev."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
HADAL = ROOT / "build" / "dev" / "bin" / "hadal"
PREFIX = "hadalnet"
SIZES = (25_000_000, 100_000_000)


def sh(*command):
    subprocess.run(command, check=True)


def inside(namespace, *command):
    sh("nsenter", f"--net=/run/netns/{namespace}", *command)


class Hosts:
    """Namespaces PREFIX0 …, with addresses 10.77.0.1 …, behind a bridge in PREFIXswitch."""

    def __init__(self, count, mbit):
        self.names = [f"{PREFIX}{i}" for i in range(count)]
        self.addresses = [f"10.77.0.{i + 1}" for i in range(count)]
        self.mbit = mbit

    def __enter__(self):
        self.close()
        self.folder = tempfile.TemporaryDirectory()
        switch = f"{PREFIX}switch"
        sh("ip", "netns", "add", switch)
        inside(switch, "ip", "link", "add", "bridge", "type", "bridge")
        inside(switch, "ip", "link", "set", "bridge", "up")
        shape = ("root", "tbf", "rate", f"{self.mbit}mbit", "burst", "256kb", "latency", "50ms")
        for i, (name, address) in enumerate(zip(self.names, self.addresses)):
            sh("ip", "netns", "add", name)
            sh("ip", "link", "add", "wire", "netns", name, "type", "veth", "peer", "name", f"port{i}", "netns", switch)
            inside(name, "ip", "addr", "add", f"{address}/24", "dev", "wire")
            inside(name, "ip", "link", "set", "wire", "up")
            inside(name, "ip", "link", "set", "lo", "up")
            # Where the system lets us; the default is cubic on most.
            subprocess.run(["nsenter", f"--net=/run/netns/{name}", "sysctl", "-qw",
                            "net.ipv4.tcp_congestion_control=cubic"], check=False, stderr=subprocess.DEVNULL)
            inside(switch, "ip", "link", "set", f"port{i}", "master", "bridge")
            inside(switch, "ip", "link", "set", f"port{i}", "up")
            # What leaves the host, and what reaches it.
            inside(name, "tc", "qdisc", "add", "dev", "wire", *shape)
            inside(switch, "tc", "qdisc", "add", "dev", f"port{i}", *shape)
        # Takes the place of ssh: AGENT ADDRESS COMMAND …
        self.agent = pathlib.Path(self.folder.name) / "agent"
        self.agent.write_text(
            f'#!/bin/sh\nname={PREFIX}$((${{1##*.}} - 1))\nshift\n'
            'exec nsenter --net=/run/netns/$name unshare --uts sh -c "hostname $name; $*"\n')
        self.agent.chmod(0o755)
        return self

    def __exit__(self, *_):
        self.close()
        self.folder.cleanup()

    def close(self):
        for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else ():
            if name.startswith(PREFIX):
                sh("ip", "netns", "del", name)

    def command(self, each, *program):
        """Starts a program on so many ranks of each host."""
        mca = ["--mca", "plm_rsh_agent", str(self.agent), "--mca", "btl", "self,tcp", "--mca", "btl_tcp_if_include",
               "wire", "--mca", "oob_tcp_if_include", "wire", "--mca", "pml", "ob1"]
        where = ",".join(f"{address}:{each}" for address in self.addresses)
        return ["nsenter", f"--net=/run/netns/{self.names[0]}", "unshare", "--uts", "sh", "-c",
                f'hostname {self.names[0]}; exec "$@"', "sh",
                "mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", *mca, "--host", where,
                *map(str, program)]

    def run(self, *arguments):
        """The JSON that `hadal ARGUMENTS --json` prints, one rank a host."""
        return parsed(self.command(1, HADAL, *arguments, "--json"))


def on_one_host(ranks, *arguments):
    return parsed(["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), HADAL,
                   *arguments, "--json"])


def parsed(command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def middle(values):
    return f"{1e3 * statistics.median(values):.1f} ms (min {1e3 * min(values):.1f}, max {1e3 * max(values):.1f})"


def main():
    count, rounds, mbit = (int(sys.argv[k]) if len(sys.argv) > k else default
                           for k, default in ((1, 2), (2, 5), (3, 1000)))
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("ip", "tc", "nsenter", "unshare")):
        sys.exit("network.py: needs root, iproute2 and util-linux: namespaces are made and links are shaped")
    with Hosts(count, mbit) as hosts:
        rows = hosts.run("bench", "reduce", "--sizes", ",".join(map(str, SIZES)), "--rounds", str(rounds))
        for row in rows:
            if row["order"] == "twin":
                continue
            assert row["wrong"] == 0, row
            bound = 2 * (count - 1) / count * row["bytes"] / (mbit * 1e6 / 8)
            print(f"{count} hosts, {row['bytes'] / 1e6:.0f} MB, {row['order']:<9} {middle(row['all_seconds'])}: "
                  f"{row['seconds'] / bound:.3f} of the link's bound of {1e3 * bound:.1f} ms")
        step = ("bench", "step", "--model", "resnet18", "--workers", "1", "--warm-up", "3", "--steps", "10")
        # bfloat16 rounds parts of a step, as many as a power of two allows: here one a host.
        contestants = [(wire, overlap) for wire in ("float32", "bfloat16")[:1 if count & (count - 1) else 2]
                       for overlap in ("always", "never")]
        expected = {wire: on_one_host(count, *step, "--wire", wire)["loss"] for wire, _ in contestants}
        results = {contestant: [] for contestant in contestants}
        for round_number in range(rounds):
            for wire, overlap in contestants if round_number % 2 else contestants[::-1]:
                result = hosts.run(*step, "--overlap", overlap, "--wire", wire)
                assert result["loss"] == expected[wire], f"the losses differ: {result['loss']}, {expected[wire]}"
                results[wire, overlap].append(result)

        def all_of(contestant, key):
            return [seconds for result in results[contestant] for seconds in result[key]]

        for wire, overlap in contestants:
            sent = results[wire, overlap][0]["sent_bytes"]
            whole, compute, reduce, update = (
                middle(all_of((wire, overlap), f"{key}_seconds")) for key in ("step", "compute", "reduce", "update"))
            print(f"{count} hosts, resnet18, wire {wire}, overlap {overlap:<6} step {whole}, compute {compute}, "
                  f"exposed reduction {reduce}, update {update}, {sent / 1e6:.1f} MB sent by a host")
        hidden = 1 - (statistics.median(all_of(("float32", "always"), "reduce_seconds"))
                      / statistics.median(all_of(("float32", "never"), "reduce_seconds")))
        print(f"{count} hosts: backward hides {100 * hidden:.0f} % of the reduction; the losses equal one host's")


if __name__ == "__main__":
    main()
