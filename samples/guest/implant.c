/* A library without any needs, which programs are made to load. */

int spied_calls(void)
{
	static int calls;

	return ++calls;
}
