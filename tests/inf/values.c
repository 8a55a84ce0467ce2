/* Prints what setupapi reads in an INF: for each line of each section its number of fields, its key and its fields,
 * separated by tabs, in UTF-8. Built for Windows; run under Wine, whose setupapi knows nothing of our parser. */
#include <stdio.h>
#include <wchar.h>
#include <windows.h>
#include <setupapi.h>

static void put(const WCHAR *text)
{
    char utf8[4096];
    if (WideCharToMultiByte(CP_UTF8, 0, text, -1, utf8, sizeof utf8, NULL, NULL) == 0)
        strcpy(utf8, "<too long>");
    fputs(utf8, stdout);
}

static int section(HINF inf, const WCHAR *name)
{
    INFCONTEXT line;
    BOOL more = SetupFindFirstLineW(inf, name, NULL, &line);
    for (; more; more = SetupFindNextLine(&line, &line)) {
        DWORD count = SetupGetFieldCount(&line);
        put(name);
        printf("\t%lu", count);
        for (DWORD field = 0; field <= count; field++) {
            WCHAR text[1024] = L"";
            if (!SetupGetStringFieldW(&line, field, text, ARRAYSIZE(text), NULL) && field != 0)
                return fprintf(stderr, "field %lu: error %lu\n", field, GetLastError()), 1;
            putchar('\t');
            put(text);
        }
        putchar('\n');
    }
    return 0;
}

int wmain(int count, WCHAR **arguments)
{
    UINT bad = 0;
    WCHAR name[256];
    if (count != 2)
        return fprintf(stderr, "usage: values FILE.inf\n"), 2;
    HINF inf = SetupOpenInfFileW(arguments[1], NULL, INF_STYLE_WIN4, &bad);
    if (inf == INVALID_HANDLE_VALUE)
        return fprintf(stderr, "line %u: error %lu\n", bad, GetLastError()), 1;
    for (UINT index = 0; SetupEnumInfSectionsW(inf, index, name, ARRAYSIZE(name), NULL); index++)
        if (section(inf, name))
            return 1;
    SetupCloseInfFile(inf);
    return 0;
}
