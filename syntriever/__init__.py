"""Syntriever: distil a black-box LLM into a dense retriever (Kim & Baek, Findings of NAACL 2025)."""
