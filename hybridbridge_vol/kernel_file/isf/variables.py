"""Types of variables that Volatility's Linux plugins ask for by name.

BTF describes types, and of variables only the per-CPU ones. These are declared in the kernel's source as
written here, from 5.10 to 7.2 where not noted otherwise. An entry is `(what, name of the type)`: a "struct"
or "base" type; a "pointer" to a struct; an "array" of a type, or an array of "pointers" to a struct, as long
as the variable, whose end is the next symbol; "with": the struct that has fields of these names.
"""

from __future__ import annotations

SYMBOL_TYPES: dict[str, tuple[str, str]] = {
    "__start___tracepoints_ptrs": ("array", "int"),
    "arp_seq_ops": ("struct", "seq_operations"),
    "bpf_kallsyms": ("struct", "list_head"),
    "cap_last_cap": ("base", "int"),
    "file_systems": ("pointer", "file_system_type"),
    "ftrace_list_end": ("struct", "ftrace_ops"),
    "ftrace_mod_maps": ("struct", "list_head"),
    "ftrace_ops_list": ("pointer", "ftrace_ops"),
    "ftrace_ops_trampoline_list": ("struct", "list_head"),
    "idt_table": ("array", "gate_struct"),
    "inet_stream_ops": ("struct", "proto_ops"),
    "init_cred": ("struct", "cred"),
    "init_files": ("struct", "files_struct"),
    "init_fs": ("struct", "fs_struct"),
    "init_mm": ("struct", "mm_struct"),
    "init_net": ("struct", "net"),
    "init_nsproxy": ("struct", "nsproxy"),
    "init_pid_ns": ("struct", "pid_namespace"),
    "init_task": ("struct", "task_struct"),
    "init_user_ns": ("struct", "user_namespace"),
    "init_uts_ns": ("struct", "uts_namespace"),
    "iomem_resource": ("struct", "resource"),
    "ioport_resource": ("struct", "resource"),
    "kallsyms_num_syms": ("base", "unsigned int"),
    "keyboard_notifier_list": ("struct", "atomic_notifier_head"),
    "log_buf": ("pointer", "char"),
    "log_buf_len": ("base", "unsigned int"),
    "mod_tree": ("struct", "mod_tree_root"),
    "module_kset": ("pointer", "kset"),
    "modules": ("struct", "list_head"),
    "net_namespace_list": ("struct", "list_head"),
    "num_registered_fb": ("base", "int"),
    "packet_seq_ops": ("struct", "seq_operations"),
    "page_offset_base": ("base", "long unsigned int"),
    "prb": ("pointer", "printk_ringbuffer"),
    "prog_idr": ("struct", "idr"),
    "raw6_seq_ops": ("struct", "seq_operations"),
    "raw_seq_ops": ("struct", "seq_operations"),
    "registered_fb": ("pointers", "fb_info"),
    "slab_caches": ("struct", "list_head"),
    "socket_file_ops": ("struct", "file_operations"),
    "sockfs_dentry_operations": ("struct", "dentry_operations"),
    "super_blocks": ("struct", "list_head"),
    "taint_flags": ("array", "taint_flag"),
    "tainted_mask": ("base", "long unsigned int"),
    "tcp4_seq_afinfo": ("struct", "tcp_seq_afinfo"),
    "tcp4_seq_ops": ("struct", "seq_operations"),
    "tcp6_seq_afinfo": ("struct", "tcp_seq_afinfo"),
    "tcp6_seq_ops": ("struct", "seq_operations"),
    "tk_core": ("with", "seq timekeeper"),  # anonymous up to 6.12, then struct tk_data
    "tty_drivers": ("struct", "list_head"),
    "udp4_seq_afinfo": ("struct", "udp_seq_afinfo"),
    "udp6_seq_afinfo": ("struct", "udp_seq_afinfo"),
    "udp6_seq_ops": ("struct", "seq_operations"),
    "udp_seq_ops": ("struct", "seq_operations"),
    "udplite4_seq_afinfo": ("struct", "udp_seq_afinfo"),
    "udplite6_seq_afinfo": ("struct", "udp_seq_afinfo"),
    "unix_seq_ops": ("struct", "seq_operations"),
    "vmalloc_base": ("base", "long unsigned int"),
    "vmemmap_base": ("base", "long unsigned int"),
}

ALIASES: dict[str, str] = {"tk_core": "timekeeper_data"}
"""Names that newer kernels give to the array whose first element is the variable (tk_core became
timekeeper_data between 6.12 and 7.2: kernel/time/timekeeping.c)."""
