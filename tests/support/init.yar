rule name_of_init {
    strings:
        $name = "HOSTNAME=" nocase
    condition:
        $name
}
